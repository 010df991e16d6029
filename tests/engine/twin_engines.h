// Two engines of one model, one with a KV cache that lets go of what the layers' windows do not
// show any more, one with a cache that keeps all. Fed alike they must say the same bits.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "runtime/engine/engine.h"
#include "tests/powerinfer/powerinfer_files.h"

namespace thermocline {

// Writes the model with windows and a context of 1024 positions. pattern: every so many layers one
// sees all positions; 0: as the model has it.
inline void WriteWindowed(const std::string& source, const std::string& path, uint32_t window,
                          uint32_t pattern = 0) {
  const auto edit = [&](EditedFile& file) {
    const auto arch = std::get<std::string>(file.keys.at("general.architecture").value);
    file.keys[arch + ".context_length"] = GgufValue::u32(1024);
    file.keys[arch + ".attention.sliding_window"] = GgufValue::u32(window);
    if (pattern == 0) return;
    file.keys[arch + ".attention.sliding_window_pattern"] = GgufValue::u32(pattern);
  };
  WriteEdited(source, path, edit, "GGUF");
}

inline std::vector<int32_t> TwinText(int seed, size_t length) {
  std::vector<int32_t> ids;
  while (ids.size() < length) {
    ids.push_back(3 + (seed * 37 + static_cast<int32_t>(ids.size()) * 17) % 280);
  }
  return ids;
}

class TwinEngines {
 public:
  explicit TwinEngines(const EngineOptions& options)
      : bounded(With(options, false)), whole(With(options, true)) {}

  // Feeds the main sequences, and returns the logits.
  std::vector<float> Feed(std::span<const int32_t> ids) {
    const auto found = bounded.Feed(ids);
    const auto expected = whole.Feed(ids);
    std::vector<float> logits(found.begin(), found.end());
    EXPECT_EQ(logits, std::vector<float>(expected.begin(), expected.end()))
        << "at position " << bounded.n_past();
    return logits;
  }

  struct Counts {
    int n_passes = 0;
    int n_forks = 0;
    int n_kept = 0;  // rollbacks behind the window's length that kept what they should
    int n_lost = 0;  // and those that kept nothing
  };
  // Sequences come, fork, are cut and go, in passes of up to batch_tokens tokens. The main ones
  // stay. Ends with the first difference.
  Counts OperateAtRandom(int n_turns) {
    const auto max_sequences = static_cast<size_t>(bounded.model().options().n_sequences);
    std::vector<int32_t> ids = {bounded.main_sequence()};
    Counts counts;
    for (int turn = 0; turn < n_turns && !::testing::Test::HasFailure(); ++turn) {
      const size_t which = Below(ids.size());
      const int32_t id = ids[which];
      switch (Below(10)) {
        case 0:
          if (which == 0) break;
          bounded.sequences().Remove(id);
          whole.sequences().Remove(id);
          ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(which));
          break;
        case 1:
        case 2:
          if (ids.size() == max_sequences) break;
          ids.push_back(bounded.sequences().Fork(id));
          EXPECT_EQ(whole.sequences().Fork(id), ids.back());
          ++counts.n_forks;
          break;
        case 3:
          RollBack(id, &counts);
          break;
        default:
          FeedSome(turn, ids);
          ++counts.n_passes;
      }
    }
    return counts;
  }

  Engine bounded;
  Engine whole;

 private:
  static EngineOptions With(EngineOptions options, bool keep_all_kv) {
    options.keep_all_kv = keep_all_kv;
    return options;
  }
  size_t Below(size_t n) { return rng_() % n; }

  void RollBack(int32_t id, Counts* counts) {
    const int64_t length = bounded.sequences().length(id);
    const auto far = static_cast<size_t>(Below(3) == 0 ? length : std::min<int64_t>(length, 130));
    const int64_t wanted = length - static_cast<int64_t>(Below(far + 1));
    const int64_t kept = bounded.sequences().KeepableLength(id, wanted);
    if (kept < wanted) ++counts->n_lost;
    if (kept == wanted && wanted < length &&
        bounded.sequences().table(id, last_class()).first_page > 0) {
      ++counts->n_kept;
    }
    bounded.sequences().Truncate(id, kept);
    whole.sequences().Truncate(id, kept);
  }
  size_t last_class() const { return bounded.model().kv_layout().classes.size() - 1; }

  void FeedSome(int turn, const std::vector<int32_t>& ids) {
    int64_t left = bounded.model().batch_tokens();
    std::vector<std::vector<int32_t>> texts;
    std::vector<SequenceInput> inputs;
    const size_t kind = Below(3);
    for (const int32_t id : ids) {
      const int64_t room = bounded.context_tokens() - bounded.sequences().length(id);
      const auto most = static_cast<size_t>(std::min(room, left));
      const size_t wanted = kind == 0 ? 1 : kind == 1 ? 5 : Below(most + 1);
      const size_t n = std::min(wanted, most);
      if (n == 0 || Below(4) == 0) continue;
      left -= static_cast<int64_t>(n);
      texts.push_back(TwinText(turn + id, n));
      inputs.push_back({id, {}});
    }
    if (inputs.empty()) return;
    for (size_t i = 0; i < inputs.size(); ++i) inputs[i].ids = texts[i];
    const auto found = bounded.FeedSequences(inputs);
    const auto expected = whole.FeedSequences(inputs);
    EXPECT_TRUE(std::ranges::equal(found, expected)) << "turn " << turn;
  }

  std::mt19937 rng_{3};
};

}  // namespace thermocline
