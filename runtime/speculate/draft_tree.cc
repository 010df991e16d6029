#include "runtime/speculate/draft_tree.h"

#include <algorithm>
#include <cmath>
#include <functional>
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

int64_t DraftTree::depth() const {
  int32_t deepest = -1;
  for (const Node& node : nodes_) deepest = std::max(deepest, node.depth);
  return deepest + 1;
}

int64_t DraftTree::drafted_depth() const {
  int32_t deepest = -1;
  for (const Node& node : nodes_) {
    if (node.source < Confidence::kMaxSources) deepest = std::max(deepest, node.depth);
  }
  return deepest + 1;
}

std::vector<int32_t> DraftTree::PathTo(int32_t node) const {
  std::vector<int32_t> path;
  for (int32_t at = node; at != kText; at = nodes_[static_cast<size_t>(at)].parent) {
    path.push_back(nodes_[static_cast<size_t>(at)].token);
  }
  std::ranges::reverse(path);
  return path;
}

int32_t DraftTree::CountBehind(int32_t parent) const {
  return static_cast<int32_t>(std::ranges::count(nodes_, parent, &Node::parent));
}

double DraftTree::ChanceLeft(int32_t parent) const {
  double left = parent == kText ? 1 : nodes_[static_cast<size_t>(parent)].chance;
  for (const Node& node : nodes_) {
    if (node.parent == parent) left *= 1 - node.own_chance;
  }
  return left;
}

double DraftTree::LeastChance(bool first) const {
  const bool is_computed = first && !extends_;
  const std::vector<double>& least = is_computed ? limits_.least_chance : limits_.least_beside;
  return nodes_.size() < least.size() ? least[nodes_.size()] : 0;
}

double DraftTree::OwnChance(const Node& node) const {
  return std::clamp(confidence_->Of(SourceNow(), node.confidence, node.place), 0.0, 1.0);
}

int64_t DraftTree::RoomBehind(int32_t parent) const {
  if (!WantsMore(parent)) return 0;
  const auto n_nodes = static_cast<int64_t>(nodes_.size());
  return std::min(limits_.max_depth - DepthBehind(parent), limits_.max_nodes - n_nodes);
}

bool DraftTree::WantsMore(int32_t parent) const {
  if (parent == kNothing) return false;
  CHECK(parent >= kText && parent < static_cast<int32_t>(nodes_.size()));
  if (DepthBehind(parent) >= limits_.max_depth) return false;
  if (static_cast<int64_t>(nodes_.size()) >= limits_.max_nodes) return false;
  if (parent != kText && limits_.ends_text &&
      limits_.ends_text(nodes_[static_cast<size_t>(parent)].token)) {
    return false;
  }
  const int32_t n_behind = CountBehind(parent);
  if (n_behind >= limits_.max_children) return false;
  return ChanceLeft(parent) >= LeastChance(n_behind == 0);
}

// A pass costs as much as makes up the difference of the two least chances. With a token that is
// certain it would bring what the extension lacks.
bool DraftTree::WantsPass(int32_t parent) const {
  if (!WantsMore(parent)) return false;
  if (!extension_) return true;
  const double said = extension_(parent);
  if (!(said >= 0 && said <= 1)) return true;
  const double chance = confidence_->Of(Confidence::ExtensionOf(source_), said);
  const double before = parent == kText ? 1 : nodes_[static_cast<size_t>(parent)].chance;
  const size_t n = nodes_.size();
  const double pass = n < limits_.least_chance.size() && n < limits_.least_beside.size()
                          ? limits_.least_chance[n] - limits_.least_beside[n]
                          : 0;
  return before * (1 - chance) > pass;
}

void DraftTree::BeginExtension() {
  extends_ = true;
  extension_ = nullptr;
  offers_.clear();
}

int32_t DraftTree::Push(Node node) {
  node.depth = DepthBehind(node.parent);
  node.place = CountBehind(node.parent);
  node.source = SourceNow();
  node.own_chance = OwnChance(node);
  node.chance = ChanceLeft(node.parent) * node.own_chance;
  if (node.chance < LeastChance(node.place == 0)) return kNothing;
  // Drawn only now, when it no longer bears on whether it is verified.
  if (!node.drawn_from.empty()) {
    const double target = random_.Uniform();
    double sum = 0;
    for (const TokenChance& chance : node.drawn_from) {
      node.token = chance.id;
      node.share = chance.probability;
      sum += chance.probability;
      if (target < sum) break;
    }
  }
  nodes_.push_back(std::move(node));
  return static_cast<int32_t>(nodes_.size()) - 1;
}

int32_t DraftTree::Add(int32_t parent, int32_t token, double confidence) {
  return Take({.parent = parent, .token = token, .confidence = confidence});
}

int32_t DraftTree::AddDrawn(int32_t parent, std::span<const TokenChance> chances) {
  if (!WantsMore(parent)) return kNothing;
  std::vector<TokenChance> drawable = Drawable(parent, chances);
  if (drawable.empty()) return kNothing;
  const auto best = std::ranges::max_element(drawable, {}, &TokenChance::probability);
  if (takes_likeliest()) {
    return Take(
        {.parent = parent, .token = best->id, .confidence = best->probability, .is_allowed = true});
  }
  return Take({.parent = parent,
               .confidence = best->probability,
               .is_allowed = true,
               .drawn_from = std::move(drawable)});
}

int32_t DraftTree::AddFrom(int32_t parent, const NextLogits& logits) {
  if (!WantsMore(parent)) return kNothing;
  std::vector<Offered> offers = OffersFrom(parent, logits);
  return offers.empty() ? kNothing : Take(std::move(offers.front()));
}

void DraftTree::Offer(int32_t parent, const NextLogits& logits) {
  if (!WantsMore(parent)) return;
  for (Offered& offer : OffersFrom(parent, logits)) offers_.push_back(std::move(offer));
}

void DraftTree::Offer(int32_t parent, int32_t token, double confidence) {
  offers_.push_back({.parent = parent, .token = token, .confidence = confidence});
}

int32_t DraftTree::TakeBest(double least) {
  while (!offers_.empty()) {
    size_t best = 0;
    double best_chance = -1;
    for (size_t i = 0; i < offers_.size(); ++i) {
      // The first one behind a parent goes before the others.
      const auto end = offers_.begin() + static_cast<ptrdiff_t>(i);
      const int32_t parent = offers_[i].parent;
      if (std::find_if(offers_.begin(), end,
                       [parent](const Offered& other) { return other.parent == parent; }) != end) {
        continue;
      }
      const double chance = ChanceLeft(parent) * OwnChance(NodeOf(offers_[i]));
      if (chance <= best_chance) continue;
      best = i;
      best_chance = chance;
    }
    if (best_chance < least) return kNothing;
    Offered offer = std::move(offers_[best]);
    offers_.erase(offers_.begin() + static_cast<ptrdiff_t>(best));
    const int32_t node = Take(std::move(offer));
    if (node != kNothing) return node;
  }
  return kNothing;
}

std::vector<DraftTree::Offered> DraftTree::OffersFrom(int32_t parent, const NextLogits& logits) {
  StandBehind(parent);
  std::vector<Offered> offers;
  const auto most = static_cast<size_t>(limits_.max_children);
  if (takes_likeliest()) {
    for (const TokenChance& best : copy_->Likeliest(logits, mask_copy_.get(), most)) {
      offers.push_back(
          {.parent = parent, .token = best.id, .share = best.probability, .is_allowed = true});
    }
    return offers;
  }
  std::vector<TokenChance> chances;
  for (const Candidates::Candidate& c : copy_->Chances(logits, mask_copy_.get())) {
    chances.push_back({c.id, c.weight});
  }
  std::vector<TokenChance> drawable = Drawable(parent, chances);
  if (drawable.empty()) return {};
  std::vector<TokenChance> likeliest = drawable;
  std::ranges::stable_sort(likeliest, std::greater<>(), &TokenChance::probability);
  offers.push_back({.parent = parent,
                    .confidence = likeliest.front().probability,
                    .is_allowed = true,
                    .drawn_from = std::move(drawable)});
  // One of them may be what is drawn.
  likeliest.resize(most == 1 ? 0 : std::min(likeliest.size(), most));
  for (const TokenChance& chance : likeliest) {
    offers.push_back(
        {.parent = parent, .token = chance.id, .share = chance.probability, .is_allowed = true});
  }
  return offers;
}

DraftTree::Node DraftTree::NodeOf(const Offered& offer) const {
  Node node{.parent = offer.parent,
            .token = offer.token,
            .place = CountBehind(offer.parent),
            .confidence = offer.confidence,
            .share = offer.share};
  if (offer.share <= 0) return node;
  // Of what is left where those in front of it are refused.
  double left = 1;
  for (const Node& other : nodes_) {
    if (other.parent == offer.parent) left -= other.share;
  }
  node.confidence = left > offer.share ? offer.share / left : 1;
  return node;
}

int32_t DraftTree::Take(Offered offer) {
  const int32_t parent = offer.parent;
  if (!WantsMore(parent)) return kNothing;
  Node node = NodeOf(offer);
  if (!offer.drawn_from.empty()) {
    // Behind others it could not be verified by rejection.
    if (node.place > 0) return kNothing;
    node.drawn_from = std::move(offer.drawn_from);
    return Push(std::move(node));
  }
  if (offer.token < 0 || offer.token >= limits_.vocab_size) return kNothing;
  if (ChildWith(parent, offer.token) != kNothing) return kNothing;
  if (!offer.is_allowed && !Allows(parent, offer.token)) return kNothing;
  return Push(std::move(node));
}

std::vector<TokenChance> DraftTree::Drawable(int32_t parent, std::span<const TokenChance> chances) {
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
  return kept;
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
    for (const int32_t token : PathTo(parent)) Step(token);
  }
  standing_ = parent;
}

int32_t DraftTree::ChildWith(int32_t parent, int32_t token) const {
  for (size_t i = 0; i < nodes_.size(); ++i) {
    if (nodes_[i].parent == parent && nodes_[i].token == token) return static_cast<int32_t>(i);
  }
  return kNothing;
}

void DraftTree::Teach(int32_t last, bool tested, Confidence* confidence) const {
  const auto learn = [&](const Node& node, bool accepted) {
    confidence->Learn(node.source, node.confidence, accepted, node.place);
  };
  for (int32_t at = last; at != kText; at = nodes_[static_cast<size_t>(at)].parent) {
    const Node& accepted = nodes_[static_cast<size_t>(at)];
    learn(accepted, true);
    for (const Node& node : nodes_) {
      if (node.parent == accepted.parent && node.place < accepted.place) learn(node, false);
    }
  }
  for (const Node& node : nodes_) {
    if (tested && node.parent == last) learn(node, false);
  }
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
