#include "profiler/drafts/draft_measure.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"
#include "runtime/engine/evaluate.h"
#include "runtime/engine/generate.h"
#include "runtime/engine/growth_pass.h"
#include "runtime/speculate/tree_rows.h"

namespace thermocline {
namespace {

// 1 / sum exp(logit - the largest), and the largest.
struct Softmax {
  float most = 0;
  double scale = 0;

  explicit Softmax(std::span<const float> logits) {
    most = *std::ranges::max_element(logits);
    double sum = 0;
    for (const float logit : logits) sum += static_cast<double>(std::exp(logit - most));
    scale = 1 / sum;
  }
  double Of(float logit) const { return scale * static_cast<double>(std::exp(logit - most)); }
};

int32_t Draw(std::span<const float> logits, double uniform) {
  const Softmax softmax(logits);
  double sum = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    sum += softmax.Of(logits[i]);
    if (uniform < sum) return static_cast<int32_t>(i);
  }
  return FindBest(logits).id;
}

}  // namespace

double Overlap(std::span<const float> p_logits, std::span<const float> q_logits) {
  CHECK(p_logits.size() == q_logits.size());
  const Softmax p(p_logits);
  const Softmax q(q_logits);
  double sum = 0;
  for (size_t i = 0; i < p_logits.size(); ++i)
    sum += std::min(p.Of(p_logits[i]), q.Of(q_logits[i]));
  return sum;
}

double DraftDepth::Length(std::span<const double> accepted, int64_t depth) {
  double length = 0;
  for (int64_t i = 0; i < depth; ++i) length += accepted[static_cast<size_t>(i)];
  return length;
}

void SetMeterOptions(int64_t window_tokens, int64_t n_forks, int64_t max_depth,
                     EngineOptions* options) {
  options->sparse = "auto";
  options->all_logits = true;
  options->keep_all_kv = true;  // sequences are cut anywhere
  options->may_split_layers = false;
  options->fast_tier = FastTier::kCpu;
  options->context_tokens = window_tokens + max_depth;
  options->batch_tokens = window_tokens;
  options->n_sequences = n_forks + 1;
  // A fork's own pages: the one it begins in, and what its chain takes.
  const int64_t own = KvPagesFor(max_depth) + 1;
  options->kv_tokens = (KvPagesFor(options->context_tokens) + n_forks * own) * kKvPageTokens;
}

DraftMeter::DraftMeter(Engine& engine, const DraftTexts& windows, int64_t n_forks)
    : engine_(engine), windows_(windows), n_forks_(n_forks) {
  CHECK(n_forks >= 1 && engine.model().options().n_sequences > n_forks);
}

std::span<const float> DraftMeter::FeedWindow(const std::vector<int32_t>& window) {
  ThrowIfInterrupted();
  engine_.Reset();
  return engine_.EvaluateAll(window);
}

std::vector<int32_t> DraftMeter::Fork(std::span<const int64_t> lengths) {
  std::vector<int32_t> forks;
  for (const int64_t length : lengths) {
    const int32_t fork = engine_.sequences().Fork(engine_.main_sequence());
    engine_.sequences().Truncate(fork, length);
    forks.push_back(fork);
  }
  return forks;
}

void DraftMeter::Remove(std::span<const int32_t> forks) {
  for (const int32_t fork : forks) engine_.sequences().Remove(fork);
}

DraftAcceptance DraftMeter::Measure(DraftPass& draft) {
  const auto width = static_cast<size_t>(engine_.config().vocab_size);
  DraftAcceptance result;
  for (const std::vector<int32_t>& window : windows_) {
    const std::span<const float> p = FeedWindow(window);
    const auto n = static_cast<int64_t>(window.size());
    for (int64_t first = n / 2; first < n; first += n_forks_) {
      std::vector<int64_t> lengths;
      for (int64_t t = first; t < std::min(n, first + n_forks_); ++t) lengths.push_back(t);
      const std::vector<int32_t> forks = Fork(lengths);
      std::vector<SequenceInput> inputs;
      for (size_t i = 0; i < forks.size(); ++i) {
        inputs.push_back({forks[i], std::span(window).subspan(static_cast<size_t>(lengths[i]), 1)});
      }
      const std::span<const float> q = draft.Feed(inputs);
      for (size_t i = 0; i < forks.size(); ++i) {
        const auto p_row = p.subspan(static_cast<size_t>(lengths[i]) * width, width);
        const auto q_row = q.subspan(i * width, width);
        result.sampled += Overlap(p_row, q_row);
        result.agreement += FindBest(p_row).id == FindBest(q_row).id ? 1 : 0;
      }
      result.n_positions += static_cast<int64_t>(forks.size());
      Remove(forks);
    }
  }
  if (result.n_positions > 0) {
    result.sampled /= static_cast<double>(result.n_positions);
    result.agreement /= static_cast<double>(result.n_positions);
  }
  return result;
}

namespace {

// A chain of tokens behind a position, and what the draft gave each.
struct Chain {
  int64_t position = 0;
  std::vector<int32_t> ids;  // what it begins with, and the drafted ones
  std::vector<double> q;     // of each drawn one, how likely the draft had it
};

void Extend(bool greedy, std::span<const float> q, std::mt19937_64* random, Chain* chain) {
  if (greedy) return chain->ids.push_back(FindBest(q).id);
  const int32_t id = Draw(q, std::uniform_real_distribution<double>()(*random));
  chain->ids.push_back(id);
  chain->q.push_back(Softmax(q).Of(q[static_cast<size_t>(id)]));
}

// Returns how many of the chain's tokens are accepted by the model's logits behind each of its ids.
int64_t Accepted(bool greedy, const Chain& chain, std::span<const float> p, size_t width,
                 std::mt19937_64* random) {
  const size_t n = chain.ids.size() - 1;
  for (size_t i = 0; i < n; ++i) {
    const auto row = p.subspan(i * width, width);
    const int32_t id = chain.ids[i + 1];
    if (greedy) {
      if (FindBest(row).id != id) return static_cast<int64_t>(i);
      continue;
    }
    const double ratio = Softmax(row).Of(row[static_cast<size_t>(id)]) / chain.q[i];
    if (std::uniform_real_distribution<double>()(*random) >= ratio) return static_cast<int64_t>(i);
  }
  return static_cast<int64_t>(n);
}

}  // namespace

void DraftMeter::Grow(DraftPass& draft, std::span<const int32_t> forks,
                      std::span<const int32_t> tokens, std::span<DraftTree> trees) {
  std::vector<DraftGrowth> growths;
  growths.reserve(trees.size());
  GrowthPass texts;
  for (size_t i = 0; i < forks.size(); ++i) {
    texts.AddText(&growths.emplace_back(&trees[i]), forks[i], tokens.subspan(i, 1));
  }
  texts.Run(engine_, draft.executor());
  std::vector<int64_t> begins;
  for (const int32_t fork : forks) begins.push_back(engine_.sequences().length(fork));
  const int64_t share = engine_.model().max_sampled_rows() / std::ssize(forks);
  while (true) {
    GrowthPass pass;
    for (size_t i = 0; i < forks.size(); ++i) pass.Add(&growths[i], forks[i], begins[i], share);
    if (pass.inputs().empty()) return;
    pass.Run(engine_, draft.executor());
  }
}

void DraftMeter::MeasureTrees(DraftPass& draft, const std::vector<int32_t>& window,
                              std::span<const int64_t> positions, int64_t width, Learnt* learnt,
                              DraftDepth* result) {
  const Sampler greedy({.temperature = 0});
  const auto most = static_cast<int64_t>(result->tree.size());
  std::vector<DraftTree> trees;
  std::vector<int32_t> tokens;
  for (const int64_t position : positions) {
    trees.emplace_back(DraftLimits{.vocab_size = engine_.config().vocab_size,
                                   .max_depth = most,
                                   .max_nodes = most,
                                   .max_children = width},
                       greedy, nullptr, learnt->text);
    tokens.push_back(window[static_cast<size_t>(position)]);
  }
  const std::vector<int32_t> forks = Fork(positions);
  Grow(draft, forks, tokens, trees);
  Remove(forks);
  // From the last on, since verifying a tree overwrites what lies behind it.
  const auto n_vocab = static_cast<size_t>(engine_.config().vocab_size);
  for (size_t i = trees.size(); i-- > 0;) {
    engine_.Truncate(positions[i]);
    const TreeRows rows({&tokens[i], 1}, trees[i]);
    const SequenceInput input{.sequence = engine_.main_sequence(),
                              .ids = rows.ids,
                              .all_logits = true,
                              .tree_begin = positions[i],
                              .parents = rows.parents};
    const auto p = engine_.FeedSequences({&input, 1});
    // The path that is accepted has the first tokens of smaller trees, too: each token was taken
    // when it was the best one.
    int32_t at = DraftTree::kText;
    while (true) {
      const auto row = static_cast<size_t>(rows.RowOf(at));
      const int32_t next = trees[i].ChildWith(at, FindBest(p.subspan(row * n_vocab, n_vocab)).id);
      if (next == DraftTree::kNothing) break;
      at = next;
      for (auto n = static_cast<size_t>(at); n < result->tree.size(); ++n) result->tree[n] += 1;
    }
    trees[i].Teach(at, /*tested=*/true, &learnt->all);
    trees[i].Teach(at, /*tested=*/true, &learnt->text);
  }
}

DraftChains DraftMeter::MeasureChains(DraftPass& draft, int64_t max_texts, int64_t n_positions,
                                      int64_t depth) {
  CHECK(!windows_.empty() && n_positions >= 1 && depth >= 1);
  const SamplerOptions options = EndlessGreedy(engine_.tokenizer());
  const Sampler greedy(options);
  const Confidence unknown;
  DraftChains result;
  result.n_texts = std::min<int64_t>(max_texts, std::ssize(windows_));
  result.depth = depth;
  result.n_prompt = std::ssize(windows_.front()) - n_positions;
  for (int64_t w = 0; w < result.n_texts; ++w) {
    const std::vector<int32_t>& window = windows_[static_cast<size_t>(w)];
    const int64_t n_prompt = std::ssize(window) - n_positions;
    CHECK(n_prompt >= 1 && n_prompt == result.n_prompt);
    Generator writer(engine_, options);
    writer.Continue({window.begin(), window.begin() + n_prompt}, n_positions + depth,
                    [](std::string_view) {});
    ThrowIfInterrupted();
    const std::vector<int32_t> text = writer.Ids();
    CHECK(std::ssize(text) == n_prompt + n_positions + depth);
    result.ids.insert(result.ids.end(), text.begin(), text.end());
    for (int64_t begin = n_prompt - 1; begin < n_prompt - 1 + n_positions; begin += n_forks_) {
      const int64_t n = std::min(n_forks_, n_prompt - 1 + n_positions - begin);
      std::vector<int64_t> lengths;
      std::vector<DraftTree> trees;
      for (int64_t t = begin; t < begin + n; ++t) {
        lengths.push_back(t);
        trees.emplace_back(
            DraftLimits{
                .vocab_size = engine_.config().vocab_size, .max_depth = depth, .max_nodes = depth},
            greedy, nullptr, unknown);
      }
      const std::vector<int32_t> forks = Fork(lengths);
      const auto behind = std::span(text).subspan(static_cast<size_t>(begin));
      Grow(draft, forks, behind.first(static_cast<size_t>(n)), trees);
      Remove(forks);
      for (size_t i = 0; i < trees.size(); ++i) {
        const std::span<const DraftTree::Node> nodes = trees[i].nodes();
        int32_t n_accepted = 0;
        for (size_t d = 0; d < static_cast<size_t>(depth); ++d) {
          const bool there = d < nodes.size();
          result.certainty.push_back(there ? static_cast<float>(nodes[d].confidence) : 0);
          const bool goes_on = there && n_accepted == static_cast<int32_t>(d) &&
                               i + 1 + d < behind.size() && nodes[d].token == behind[i + 1 + d];
          if (goes_on) ++n_accepted;
        }
        result.accepted.push_back(n_accepted);
      }
    }
  }
  return result;
}

DraftDepth DraftMeter::MeasureDepth(DraftPass& draft, int64_t depth, int64_t stride, uint64_t seed,
                                    int64_t tree_width) {
  const auto width = static_cast<size_t>(engine_.config().vocab_size);
  std::mt19937_64 random(seed);
  Learnt learnt;
  DraftDepth result;
  result.greedy.resize(static_cast<size_t>(depth), 0);
  result.sampled.resize(static_cast<size_t>(depth), 0);
  result.tree.resize(static_cast<size_t>(depth), 0);
  for (const std::vector<int32_t>& window : windows_) {
    const auto n = static_cast<int64_t>(window.size());
    std::vector<int64_t> starts;
    for (int64_t t = n / 2; t < n; t += stride) starts.push_back(t);
    for (const bool greedy : {true, false}) {
      FeedWindow(window);
      // From the last on, since verifying a chain overwrites what lies behind it.
      for (auto end = static_cast<int64_t>(starts.size()); end > 0; end -= n_forks_) {
        const int64_t begin = std::max<int64_t>(0, end - n_forks_);
        std::vector<Chain> chains;
        std::vector<int64_t> lengths;
        for (int64_t i = begin; i < end; ++i) {
          const int64_t t = starts[static_cast<size_t>(i)];
          lengths.push_back(t);
          chains.push_back({t, {window[static_cast<size_t>(t)]}, {}});
        }
        const std::vector<int32_t> forks = Fork(lengths);
        for (int64_t d = 0; d < depth; ++d) {
          std::vector<SequenceInput> inputs;
          for (size_t i = 0; i < forks.size(); ++i) {
            inputs.push_back({forks[i], std::span(chains[i].ids).last(1)});
          }
          const std::span<const float> q = draft.Feed(inputs);
          for (size_t i = 0; i < forks.size(); ++i) {
            Extend(greedy, q.subspan(i * width, width), &random, &chains[i]);
          }
        }
        Remove(forks);
        for (size_t i = chains.size(); i-- > 0;) {
          engine_.Truncate(chains[i].position);
          const std::span<const float> p = engine_.EvaluateAll(chains[i].ids);
          const int64_t accepted = Accepted(greedy, chains[i], p, width, &random);
          std::vector<double>& shares = greedy ? result.greedy : result.sampled;
          for (int64_t d = 0; d < accepted; ++d) shares[static_cast<size_t>(d)] += 1;
        }
      }
    }
    const auto measure_trees = [&](DraftDepth* of_trees) {
      FeedWindow(window);
      for (auto end = static_cast<int64_t>(starts.size()); end > 0; end -= n_forks_) {
        const auto begin = static_cast<size_t>(std::max<int64_t>(0, end - n_forks_));
        MeasureTrees(draft, window,
                     std::span(starts).subspan(begin, static_cast<size_t>(end) - begin), tree_width,
                     &learnt, of_trees);
      }
    };
    // A text has been drafted for before; what is known of the draft then is learnt first.
    DraftDepth unused = result;
    if (result.n_chains == 0) measure_trees(&unused);
    measure_trees(&result);
    result.n_chains += static_cast<int64_t>(starts.size());
  }
  for (std::vector<double>* shares : {&result.greedy, &result.sampled, &result.tree}) {
    for (double& share : *shares)
      share /= std::max<double>(1, static_cast<double>(result.n_chains));
  }
  return result;
}

}  // namespace thermocline
