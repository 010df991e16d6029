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

namespace {

// A text that goes on with a few drafted tokens.
class LongerText {
 public:
  LongerText(const std::vector<int32_t>& ids, std::span<const int32_t> path)
      : ids_(ids), path_(path) {}
  int64_t size() const { return std::ssize(ids_) + std::ssize(path_); }
  int32_t operator[](int64_t i) const {
    const int64_t n = std::ssize(ids_);
    return i < n ? ids_[static_cast<size_t>(i)] : path_[static_cast<size_t>(i - n)];
  }

 private:
  const std::vector<int32_t>& ids_;
  std::span<const int32_t> path_;
};

}  // namespace

std::vector<NgramIndex::Match> NgramIndex::FindBehind(std::span<const int32_t> path,
                                                      size_t most) const {
  std::vector<Match> matches;
  const LongerText text(ids_, path);
  if (ids_.empty() || text.size() < kFewest) return matches;
  const int64_t end = text.size() - 1;
  int64_t at = before_.back();
  if (!path.empty()) {
    const auto found = last_.find(KeyOf(text[end - 1], text[end]));
    at = found == last_.end() ? -1 : found->second;
  }
  for (int64_t n_places = 0; at >= 0 && n_places < kMostPlaces; ++n_places) {
    int64_t length = kFewest;
    while (length < kLongest && at - length >= 0 && text[at - length] == text[end - length]) {
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
  void Add(const LongerText& text, const NgramIndex::Match& match, int64_t n_tokens) {
    std::vector<int32_t> added;
    size_t at = 0;
    for (int64_t d = 0; d < n_tokens; ++d) {
      const int64_t from = match.next + d;
      added.push_back(from < text.size() ? text[from]
                                         : added[static_cast<size_t>(from - text.size())]);
      at = ChildOf(at, added.back(), match.length + d);
    }
  }
  // Offers what follows a place of it, behind a node.
  void Offer(size_t at, int32_t node, DraftTree* tree) const {
    for (const size_t child : follows_[at].children) {
      tree->Offer(node, follows_[child].token, NgramCertainty(follows_[child].length));
    }
  }
  // The place behind `at` that has the token.
  size_t Child(size_t at, int32_t token) const {
    return *std::ranges::find_if(follows_[at].children,
                                 [&](size_t child) { return follows_[child].token == token; });
  }

 private:
  struct Follow {
    int32_t token = 0;
    int64_t length = 0;  // of the match, what was taken of its continuation included
    std::vector<size_t> children = {};
  };

  size_t ChildOf(size_t parent, int32_t token, int64_t length) {
    for (const size_t child : follows_[parent].children) {
      if (follows_[child].token == token) return child;
    }
    follows_.push_back({token, length});
    follows_[parent].children.push_back(follows_.size() - 1);
    return follows_.size() - 1;
  }

  std::vector<Follow> follows_{1};  // the first is where it begins
};

}  // namespace

void ProposeNgrams(const NgramIndex& index, std::span<const int32_t> parents, DraftTree* tree) {
  struct Place {
    size_t continuations = 0;
    size_t at = 0;
  };
  std::vector<Continuations> found(parents.size());
  std::map<int32_t, Place> places;  // by node
  const size_t most = tree->max_children() == 1 ? 1 : kMostContinuations;
  for (size_t i = 0; i < parents.size(); ++i) {
    const std::vector<int32_t> path = tree->PathTo(parents[i]);
    for (const NgramIndex::Match& match : index.FindBehind(path, most)) {
      found[i].Add({index.ids(), path}, match, tree->RoomBehind(parents[i]));
    }
    places[parents[i]] = {i, 0};
    found[i].Offer(0, parents[i], tree);
  }
  for (int32_t node = tree->TakeBest(0); node >= 0; node = tree->TakeBest(0)) {
    const DraftTree::Node& taken = tree->nodes()[static_cast<size_t>(node)];
    const Place parent = places.at(taken.parent);
    const Continuations& of_node = found[parent.continuations];
    const size_t at = of_node.Child(parent.at, taken.token);
    places[node] = {parent.continuations, at};
    if (tree->WantsMore(node)) of_node.Offer(at, node, tree);
  }
}

void NgramDraft::Draft(std::span<const DraftRequest> requests) {
  constexpr int32_t kEnd[] = {DraftTree::kText};
  for (const DraftRequest& request : requests) {
    NgramIndex& index = texts_[request.text];
    index.Follow(request.ids);
    ProposeNgrams(index, kEnd, request.tree);
  }
}

}  // namespace thermocline
