#include "runtime/speculate/ngram_draft.h"

#include <algorithm>

namespace thermocline {
namespace {

// Places that are compared, the latest first: a text of one token over and over has very many.
constexpr int64_t kMostPlaces = 64;

}  // namespace

void NgramIndex::Follow(std::span<const int32_t> ids) {
  const bool has_grown =
      ids.size() >= ids_.size() && std::ranges::equal(ids_, ids.first(ids_.size()));
  if (!has_grown) *this = {};
  for (size_t i = ids_.size(); i < ids.size(); ++i) {
    ids_.push_back(ids[i]);
    before_.push_back(-1);
    if (i == 0) continue;
    const auto [at, is_new] = last_.try_emplace(KeyOf(ids[i - 1], ids[i]), static_cast<int64_t>(i));
    if (is_new) continue;
    before_.back() = at->second;
    at->second = static_cast<int64_t>(i);
  }
}

NgramIndex::Match NgramIndex::Find() const {
  Match best;
  if (ids_.empty()) return best;
  const auto end = static_cast<int64_t>(ids_.size()) - 1;
  int64_t n_places = 0;
  for (int64_t at = before_.back(); at >= 0 && n_places < kMostPlaces; ++n_places) {
    int64_t length = kFewest;
    while (length < kLongest && at - length >= 0 &&
           ids_[static_cast<size_t>(at - length)] == ids_[static_cast<size_t>(end - length)]) {
      ++length;
    }
    if (length > best.length) best = {at + 1, length};
    at = before_[static_cast<size_t>(at)];
  }
  return best;
}

void NgramDraft::Draft(std::span<const DraftRequest> requests) {
  for (const DraftRequest& request : requests) {
    NgramIndex& index = texts_[request.text];
    index.Follow(request.ids);
    const NgramIndex::Match match = index.Find();
    if (match.length == 0) continue;
    std::vector<int32_t> text = index.ids();  // and what is proposed: repetitions run into that
    int32_t at = DraftTree::kText;
    for (int64_t d = 0; request.tree->WantsMore(at); ++d) {
      const int32_t token = text[static_cast<size_t>(match.next + d)];
      const auto length = static_cast<double>(match.length + d);
      at = request.tree->Add(at, token, length / (length + 2));
      text.push_back(token);
    }
  }
}

}  // namespace thermocline
