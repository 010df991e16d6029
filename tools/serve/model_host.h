// The model that is served: loaded, with its scheduler; or asleep, when nobody has asked for
// anything in a while.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <vector>

#include "runtime/drafts/drafting.h"
#include "runtime/engine/engine.h"
#include "runtime/schedule/scheduler_thread.h"
#include "tools/serve/serve_options.h"

namespace thermocline {

// While somebody holds one, the model stays loaded.
struct LoadedModel {
  // is_first: nobody waits for it yet, so there is time to warm up.
  LoadedModel(const ServeOptions& options, ScheduleStats before, bool is_first);
  LoadedModel(const ServeOptions& options, std::unique_ptr<OpenedModel> model, ScheduleStats before,
              bool is_first);

  std::unique_ptr<Drafting> drafting;  // null: nothing drafts
  Engine engine;
  ScheduleStats before;  // of the schedulers before this one
  SchedulerThread scheduler;
};

// Where a layer's neurons lie, and which share of them fires.
struct LayerHeat {
  double hot_share = 0;    // on the fast tier
  double fired_share = 0;  // of the tokens whose neurons could be skipped one by one
};

class ModelHost {
 public:
  // Loads. `options` must outlive it. Throws Error.
  explicit ModelHost(const ServeOptions& options);
  ~ModelHost();  // ends what runs

  // What never changes.
  const OpenedModel& model() const { return *opened_; }
  const Tokenizer& tokenizer() const { return tokenizer_; }
  int64_t context_tokens() const { return context_tokens_; }  // of a slot

  // Loads the model again where it sleeps.
  std::shared_ptr<LoadedModel> Wake();
  bool is_sleeping() const;
  // Puts the model to sleep where nobody has used it for as long as the options say.
  void SleepWhereIdle();

  // All schedulers together; none of these wakes the model.
  ScheduleStats stats() const;
  std::vector<SlotState> slots() const;
  // Neurons of all layers that the stats' tokens could have skipped.
  int64_t NeuronsOf(const ScheduleStats& stats) const;
  std::vector<LayerHeat> Heat(const ScheduleStats& stats) const;
  // Bytes of weights that a token read, and what it would have read with nothing skipped; both 0
  // before there was one.
  struct BytesPerToken {
    double read = 0;
    double dense = 0;
    std::vector<double> tiers = {};  // `read`, by the tier that it lies in
  };
  BytesPerToken Bytes(const ScheduleStats& stats) const;
  std::vector<std::string> tier_names() const { return tier_names_; }

 private:
  const ServeOptions& options_;
  std::unique_ptr<OpenedModel> opened_;
  const Tokenizer& tokenizer_;
  int64_t context_tokens_ = 0;
  std::vector<std::string> tier_names_;

  mutable std::mutex mutex_;
  std::shared_ptr<LoadedModel> loaded_;  // null: asleep
  ScheduleStats asleep_;                 // of all schedulers so far, while asleep
  std::vector<SlotState> asleep_slots_;
  std::vector<LayerHeat> hot_;  // the hot shares
  std::chrono::steady_clock::time_point used_ = std::chrono::steady_clock::now();
};

}  // namespace thermocline
