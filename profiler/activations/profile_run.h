// The work of `profile`: it runs texts through the model while a counter watches.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "profiler/activations/activation_counter.h"
#include "profiler/activations/corpus.h"
#include "profiler/activations/lru.h"
#include "profiler/activations/profile_stats.h"
#include "runtime/engine/engine.h"

namespace thermocline {

struct ProfileOptions {
  std::string text_path;
  std::string heldout_path;       // empty: the end of the text is held out
  double heldout_fraction = 0.2;  // share of the windows, rounded, at least one; in (0, 1)
  int64_t max_tokens = 0;         // of each text; 0: all
  double activation_threshold = 0;
  // In place of activation_threshold: each layer's neurons are active above the magnitude below
  // which this share of its |h| lies in the first window. 0: not so.
  double cut_share = 0;
  ProgressFn progress;
};

// The texts of both splits, opened, counted and long enough. Throws Error where one is not.
class ProfileTexts {
 public:
  ProfileTexts(const OpenedModel& model, const Tokenizer& tokenizer, const ProfileOptions& options);

  int64_t calibration_windows() const { return calibration_windows_; }
  int64_t heldout_windows() const { return heldout_windows_; }
  int64_t calibration_tokens() const;
  int64_t heldout_tokens() const;
  // Calibration windows are taken first, then the held-out ones.
  std::vector<int32_t> NextCalibrationWindow() { return text_.NextWindow(); }
  std::vector<int32_t> NextHeldoutWindow();

 private:
  Corpus text_;
  std::optional<Corpus> heldout_;
  int64_t calibration_windows_ = 0;
  int64_t heldout_windows_ = 0;
};

// One profiling run: Calibrate(), then HoldOut(). Each window is a sequence of its own. Throws
// Interrupted between the batches of a window.
class ProfileRun {
 public:
  // Another observer of the calibration, told when a text begins; null: none.
  class Watcher : public FfnObserver {
   public:
    virtual void BeginText() = 0;
  };

  // `engine` must run the whole model on one tier. Where it watches attention, the statistics hold
  // the squares of the matrices' inputs. It and `texts` must outlive the run.
  ProfileRun(Engine& engine, ProfileTexts& texts, const ProfileOptions& options);

  void Calibrate(Watcher* watcher = nullptr);
  // lru_sizes: neurons per layer of the caches to simulate; empty: none. also: who watches as well;
  // null: nobody.
  void HoldOut(const std::vector<int64_t>& lru_sizes, FfnObserver* also = nullptr);

  const ProfileStats& stats() const { return stats_; }
  void SetThresholds(ModelThresholds thresholds) { stats_.thresholds = std::move(thresholds); }
  // The first window of each split, with its BOS.
  const std::vector<int32_t>& first_window(bool calibration) const {
    return first_windows_[calibration ? 0 : 1];
  }
  const LruBaseline* lru() const { return lru_ ? &*lru_ : nullptr; }

 private:
  // Finds the layers' thresholds for cut_share.
  void MeasureThresholds(const std::vector<int32_t>& ids);
  // also: who watches beside the counter. told: who is told of texts. Either may be null.
  void RunSplit(bool calibration, FfnObserver* also, Watcher* told);

  Engine& engine_;
  ProfileTexts& texts_;
  ProgressFn progress_;
  double cut_share_;
  ChannelOrders orders_;
  ActivationCounter counter_;
  std::optional<LruBaseline> lru_;
  ProfileStats stats_;
  std::vector<int32_t> first_windows_[2];
};

}  // namespace thermocline
