#include "runtime/speculate/ngram_draft.h"

#include <algorithm>
#include <functional>

namespace thermocline {
namespace {

// Places that are compared, the latest first: a text of one token over and over has very many.
constexpr int64_t kMostPlaces = 64;
// Places of which a tree has what followed there.
constexpr size_t kMostContinuations = 8;

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
  const std::vector<Match> best = FindSeveral(1);
  return best.empty() ? Match{} : best.front();
}

std::vector<NgramIndex::Match> NgramIndex::FindSeveral(size_t most) const {
  std::vector<Match> matches;
  if (ids_.empty()) return matches;
  const auto end = static_cast<int64_t>(ids_.size()) - 1;
  int64_t n_places = 0;
  for (int64_t at = before_.back(); at >= 0 && n_places < kMostPlaces; ++n_places) {
    int64_t length = kFewest;
    while (length < kLongest && at - length >= 0 &&
           ids_[static_cast<size_t>(at - length)] == ids_[static_cast<size_t>(end - length)]) {
      ++length;
    }
    matches.push_back({at + 1, length});
    at = before_[static_cast<size_t>(at)];
  }
  std::ranges::stable_sort(matches, std::greater<>(), &Match::length);
  matches.resize(std::min(matches.size(), most));
  return matches;
}

namespace {

// What followed at several places, as a tree: what they have in common is there once.
class Continuations {
 public:
  // The tokens from the match on, and behind the text's end what has been added of it itself:
  // repetitions run into that.
  void Add(const std::vector<int32_t>& ids, const NgramIndex::Match& match, int64_t n_tokens) {
    std::vector<int32_t> added;
    size_t at = 0;
    for (int64_t d = 0; d < n_tokens; ++d) {
      const auto from = static_cast<size_t>(match.next + d);
      added.push_back(from < ids.size() ? ids[from] : added[from - ids.size()]);
      at = ChildOf(at, added.back(), static_cast<double>(match.length + d));
    }
  }
  // Proposes all of it, the likeliest first.
  void Propose(DraftTree* tree) const {
    std::vector<size_t> of_node;  // of the tree
    const auto offer = [&](int32_t node, size_t at) {
      for (const size_t child : follows_[at].children) {
        const double length = follows_[child].length;
        tree->Offer(node, follows_[child].token, length / (length + 2));
      }
    };
    offer(DraftTree::kText, 0);
    for (int32_t node = tree->TakeBest(0); node >= 0; node = tree->TakeBest(0)) {
      const DraftTree::Node& taken = tree->nodes()[static_cast<size_t>(node)];
      const size_t parent =
          taken.parent == DraftTree::kText ? 0 : of_node[static_cast<size_t>(taken.parent)];
      of_node.push_back(*std::ranges::find_if(follows_[parent].children, [&](size_t child) {
        return follows_[child].token == taken.token;
      }));
      if (tree->WantsMore(node)) offer(node, of_node.back());
    }
  }

 private:
  struct Follow {
    int32_t token = 0;
    double length = 0;  // of the match, what was taken of its continuation included
    std::vector<size_t> children = {};
  };

  size_t ChildOf(size_t parent, int32_t token, double length) {
    for (const size_t child : follows_[parent].children) {
      if (follows_[child].token == token) return child;
    }
    follows_.push_back({token, length});
    follows_[parent].children.push_back(follows_.size() - 1);
    return follows_.size() - 1;
  }

  std::vector<Follow> follows_{1};  // the first is the text
};

}  // namespace

void NgramDraft::Draft(std::span<const DraftRequest> requests) {
  for (const DraftRequest& request : requests) {
    NgramIndex& index = texts_[request.text];
    index.Follow(request.ids);
    const size_t most = request.tree->max_children() == 1 ? 1 : kMostContinuations;
    Continuations found;
    for (const NgramIndex::Match& match : index.FindSeveral(most)) {
      found.Add(index.ids(), match, request.tree->RoomBehind(DraftTree::kText));
    }
    found.Propose(request.tree);
  }
}

}  // namespace thermocline
