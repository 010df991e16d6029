// A toy of a model, whose logits follow from the last two tokens, and a text that it writes with
// drafts as the loops do (runtime/engine/generate.cc, runtime/schedule/pass.cc).
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "runtime/sampling/sampler.h"
#include "runtime/speculate/draft_growth.h"
#include "runtime/speculate/speculator.h"

namespace thermocline {

inline constexpr int64_t kToyVocab = 12;

inline std::vector<float> ToyLogits(std::span<const int32_t> text) {
  uint64_t state = 1;
  for (const int32_t id : text.last(std::min<size_t>(2, text.size()))) {
    state = state * 31 + static_cast<uint64_t>(id) + 7;
  }
  Random random(state);
  std::vector<float> logits;
  for (int64_t i = 0; i < kToyVocab; ++i) {
    logits.push_back(static_cast<float>(4 * random.Uniform() - 2));
  }
  return logits;
}

// Proposes what a function does.
class FunctionDraft : public DraftSource {
 public:
  using Propose = std::function<void(const DraftRequest&)>;
  explicit FunctionDraft(Propose propose) : propose_(std::move(propose)) {}
  std::string name() const override { return "function"; }
  void Draft(std::span<const DraftRequest> requests) override {
    for (const DraftRequest& request : requests) propose_(request);
  }

 private:
  Propose propose_;
};

// Drafts as a model does whose logits those of a text are, in trees where the tree's limits allow.
inline void GrowToy(const DraftRequest& request,
                    const std::function<std::vector<float>(std::span<const int32_t>)>& logits_of) {
  DraftGrowth growth(request.tree);
  growth.TakeText({.all = logits_of(request.ids)});
  while (const size_t n = growth.Next(4)) {
    for (size_t i = 0; i < n; ++i) {
      std::vector<int32_t> path;
      const size_t first = growth.read().size() - n;
      for (auto at = static_cast<int32_t>(first + i); at >= 0;
           at = growth.parents()[static_cast<size_t>(at)]) {
        path.push_back(growth.read()[static_cast<size_t>(at)]);
      }
      std::vector<int32_t> text(request.ids.begin(), request.ids.end());
      text.insert(text.end(), path.rbegin(), path.rend());
      growth.Take(i, {.all = logits_of(text)});
    }
    growth.EndPass();
  }
}

// Writes n tokens behind a text. sampler and mask: that have been told of it.
inline void WriteToy(Speculator* speculator, Sampler* sampler, TokenMask* mask, bool draws,
                     int64_t n, std::vector<int32_t>* text) {
  const size_t end = text->size() + static_cast<size_t>(n);
  while (text->size() < end) {
    std::vector<DraftTree> trees;
    if (speculator != nullptr) {
      const SpeculatedText asked{.ids = *text,
                                 .sampler = sampler,
                                 .mask = mask,
                                 .most = static_cast<int64_t>(end - text->size()) - 1,
                                 .draws = draws};
      trees = speculator->Draft({&asked, 1});
      speculator->MeasurePass(trees, 0, 1);
    }
    const DraftTree* const tree = trees.empty() ? nullptr : &trees.front();
    int32_t at = DraftTree::kText;
    int64_t n_written = 0;
    bool goes_along = true;
    while (goes_along) {
      const auto drawn = tree != nullptr ? tree->DrawnBehind(at) : std::nullopt;
      const int32_t id = sampler->Sample(ToyLogits(*text), mask, drawn ? &*drawn : nullptr);
      sampler->Accept(id);
      if (mask != nullptr) mask->Accept(id);
      text->push_back(id);
      ++n_written;
      const int32_t next = tree != nullptr ? tree->ChildWith(at, id) : DraftTree::kNothing;
      goes_along = next != DraftTree::kNothing;
      if (goes_along) at = next;
    }
    if (speculator != nullptr) speculator->Verified(0, *tree, at, true, n_written);
  }
}

}  // namespace thermocline
