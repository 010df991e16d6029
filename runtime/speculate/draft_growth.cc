#include "runtime/speculate/draft_growth.h"

#include <algorithm>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

// How likely what follows an accepted token is taken to be accepted, before the model says so: what
// else is likelier goes first, and is read in the same pass.
constexpr double kUsualChance = 0.75;

}  // namespace

void DraftGrowth::TakeText(const NextLogits& logits) {
  tree_->Offer(DraftTree::kText, logits);
  TakeOffers();
}

void DraftGrowth::TakeOffers() {
  const auto chance_of = [&](int32_t node) {
    return tree_->nodes()[static_cast<size_t>(node)].chance;
  };
  double least = 0;
  for (const int32_t node : unread_) least = std::max(least, kUsualChance * chance_of(node));
  while (true) {
    const int32_t node = tree_->TakeBest(least);
    if (node == DraftTree::kNothing) return;
    unread_.push_back(node);
    if (tree_->WantsMore(node)) least = std::max(least, kUsualChance * chance_of(node));
  }
}

size_t DraftGrowth::Next(size_t most) {
  // What seemed worth it may not be any more, with more in the tree.
  std::erase_if(unread_, [&](int32_t node) { return !tree_->WantsPass(node); });
  if (unread_.empty()) TakeOffers();
  std::erase_if(unread_, [&](int32_t node) { return !tree_->WantsPass(node); });
  std::ranges::stable_sort(unread_, [&](int32_t a, int32_t b) {
    return tree_->nodes()[static_cast<size_t>(a)].chance >
           tree_->nodes()[static_cast<size_t>(b)].chance;
  });
  const auto n = static_cast<ptrdiff_t>(std::min(most, unread_.size()));
  reading_.assign(unread_.begin(), unread_.begin() + n);
  unread_.erase(unread_.begin(), unread_.begin() + n);
  ids_.clear();
  for (const int32_t node : reading_) {
    const DraftTree::Node& of_tree = tree_->nodes()[static_cast<size_t>(node)];
    const auto parent = std::ranges::find(read_, of_tree.parent);
    CHECK(of_tree.parent == DraftTree::kText || parent != read_.end());
    parents_.push_back(
        of_tree.parent == DraftTree::kText ? -1 : static_cast<int32_t>(parent - read_.begin()));
    ids_.push_back(of_tree.token);
    read_.push_back(node);
    read_ids_.push_back(of_tree.token);
  }
  return reading_.size();
}

void DraftGrowth::Take(size_t i, const NextLogits& logits) { tree_->Offer(reading_[i], logits); }

void DraftGrowth::EndPass() { TakeOffers(); }

}  // namespace thermocline
