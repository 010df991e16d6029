#include "runtime/speculate/draft_tree.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "runtime/core/error.h"

namespace thermocline {

DraftTree::DraftTree(DraftLimits limits, const Sampler& sampler, const TokenMask* mask,
                     const Confidence& confidence)
    : limits_(std::move(limits)),
      sampler_(sampler),
      mask_(mask),
      confidence_(&confidence),
      random_(limits_.seed) {}

DraftTree::DraftTree(DraftTree&&) noexcept = default;
DraftTree::~DraftTree() = default;

bool DraftTree::takes_likeliest() const { return !limits_.draws || sampler_.is_greedy(); }

int32_t DraftTree::DepthBehind(int32_t parent) const {
  return parent == kText ? 0 : nodes_[static_cast<size_t>(parent)].depth + 1;
}

double DraftTree::ChanceBehind(int32_t parent, double confidence) const {
  const double before = parent == kText ? 1 : nodes_[static_cast<size_t>(parent)].chance;
  return before * confidence;
}

int64_t DraftTree::RoomBehind(int32_t parent) const {
  if (!WantsMore(parent)) return 0;
  const auto n_nodes = static_cast<int64_t>(nodes_.size());
  return std::min(limits_.max_depth - DepthBehind(parent), limits_.max_nodes - n_nodes);
}

bool DraftTree::WantsMore(int32_t parent) const {
  if (parent == kNothing) return false;
  CHECK(parent >= kText && parent < static_cast<int32_t>(nodes_.size()));
  const auto depth = static_cast<size_t>(DepthBehind(parent));
  if (static_cast<int64_t>(depth) >= limits_.max_depth) return false;
  if (static_cast<int64_t>(nodes_.size()) >= limits_.max_nodes) return false;
  if (parent != kText && limits_.ends_text &&
      limits_.ends_text(nodes_[static_cast<size_t>(parent)].token)) {
    return false;
  }
  // A chain: its last node is the only one that anything may follow.
  if (!limits_.branches && parent != static_cast<int32_t>(nodes_.size()) - 1) return false;
  if (depth >= limits_.least_chance.size()) return true;
  return ChanceBehind(parent, 1) >= limits_.least_chance[depth];
}

int32_t DraftTree::Push(Node node) {
  node.depth = DepthBehind(node.parent);
  const double confidence = std::clamp(confidence_->Of(source_, node.confidence), 0.0, 1.0);
  node.chance = ChanceBehind(node.parent, confidence);
  const auto depth = static_cast<size_t>(node.depth);
  if (depth < limits_.least_chance.size() && node.chance < limits_.least_chance[depth]) {
    return kNothing;
  }
  // Drawn only now, when it no longer bears on whether it is verified.
  if (!node.drawn_from.empty()) {
    const double target = random_.Uniform();
    double sum = 0;
    for (const TokenChance& chance : node.drawn_from) {
      node.token = chance.id;
      sum += chance.probability;
      if (target < sum) break;
    }
  }
  nodes_.push_back(std::move(node));
  return static_cast<int32_t>(nodes_.size()) - 1;
}

int32_t DraftTree::Add(int32_t parent, int32_t token, double confidence) {
  if (!WantsMore(parent) || token < 0 || token >= limits_.vocab_size) return kNothing;
  if (DrawnBehind(parent) || ChildWith(parent, token) != kNothing) return kNothing;
  if (!Allows(parent, token)) return kNothing;
  return Push({.parent = parent, .token = token, .confidence = confidence});
}

int32_t DraftTree::AddDrawn(int32_t parent, std::span<const TokenChance> chances) {
  if (!WantsMore(parent)) return kNothing;
  // Beside others it could not be verified by rejection.
  for (const Node& node : nodes_) {
    if (node.parent == parent) return kNothing;
  }
  std::vector<TokenChance> kept;
  for (const TokenChance& chance : chances) {
    if (chance.id < 0 || chance.id >= limits_.vocab_size) continue;
    if (!(chance.probability > 0) || !std::isfinite(chance.probability)) continue;
    if (Allows(parent, chance.id)) kept.push_back(chance);
  }
  std::ranges::sort(kept, {}, &TokenChance::id);
  const auto same = [](const TokenChance& a, const TokenChance& b) { return a.id == b.id; };
  kept.erase(std::unique(kept.begin(), kept.end(), same), kept.end());
  // By the largest first, so that sums of large numbers stay finite.
  double most = 0;
  for (const TokenChance& chance : kept) most = std::max(most, chance.probability);
  double sum = 0;
  for (TokenChance& chance : kept) sum += chance.probability /= most;
  for (TokenChance& chance : kept) chance.probability /= sum;
  std::erase_if(kept, [](const TokenChance& chance) { return chance.probability <= 0; });
  if (kept.empty()) return kNothing;
  const double confidence = 1 / sum;
  if (takes_likeliest()) {
    const auto best = std::ranges::max_element(kept, {}, &TokenChance::probability);
    return Push({.parent = parent, .token = best->id, .confidence = confidence});
  }
  return Push({.parent = parent, .confidence = confidence, .drawn_from = std::move(kept)});
}

int32_t DraftTree::AddFrom(int32_t parent, const NextLogits& logits) {
  if (!WantsMore(parent)) return kNothing;
  StandBehind(parent);
  if (takes_likeliest()) {
    const std::optional<TokenChance> best = copy_->Likeliest(logits, mask_copy_.get());
    return best ? Add(parent, best->id, best->probability) : kNothing;
  }
  std::vector<TokenChance> chances;
  for (const Candidates::Candidate& c : copy_->Chances(logits, mask_copy_.get())) {
    chances.push_back({c.id, c.weight});
  }
  return AddDrawn(parent, chances);
}

bool DraftTree::Allows(int32_t parent, int32_t token) {
  if (mask_ == nullptr) return true;
  StandBehind(parent);
  return !mask_copy_->constrains() || mask_copy_->Allows(token);
}

void DraftTree::Step(int32_t token) {
  copy_->Accept(token);
  if (mask_copy_ != nullptr) mask_copy_->Accept(token);
}

void DraftTree::StandBehind(int32_t parent) {
  if (copy_ != nullptr && standing_ == parent) return;
  const bool is_next = copy_ != nullptr && parent != kText &&
                       nodes_[static_cast<size_t>(parent)].parent == standing_;
  if (is_next) {
    Step(nodes_[static_cast<size_t>(parent)].token);
  } else {
    copy_ = std::make_unique<Sampler>(sampler_.WithSeed(limits_.seed + 1));
    mask_copy_ = mask_ == nullptr ? nullptr : mask_->Clone();
    std::vector<int32_t> path;
    for (int32_t at = parent; at != kText; at = nodes_[static_cast<size_t>(at)].parent) {
      path.push_back(nodes_[static_cast<size_t>(at)].token);
    }
    for (auto token = path.rbegin(); token != path.rend(); ++token) Step(*token);
  }
  standing_ = parent;
}

int32_t DraftTree::ChildWith(int32_t parent, int32_t token) const {
  for (size_t i = 0; i < nodes_.size(); ++i) {
    if (nodes_[i].parent == parent && nodes_[i].token == token) return static_cast<int32_t>(i);
  }
  return kNothing;
}

std::optional<Proposal> DraftTree::DrawnBehind(int32_t parent) const {
  for (const Node& node : nodes_) {
    if (node.parent == parent && !node.drawn_from.empty()) {
      return Proposal{node.token, node.drawn_from};
    }
  }
  return std::nullopt;
}

}  // namespace thermocline
