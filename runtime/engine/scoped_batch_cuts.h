// Measuring what thresholds cost by whole batches.
#pragma once

#include "runtime/device/channel_cuts.h"

namespace thermocline {

// Has the rows of batches cut, too, while it lives. cuts: null where there are none.
class ScopedBatchCuts {
 public:
  explicit ScopedBatchCuts(ChannelCuts* cuts) : cuts_(cuts) {
    if (cuts_ != nullptr) cuts_->cut_batches = true;
  }
  ~ScopedBatchCuts() {
    if (cuts_ != nullptr) cuts_->cut_batches = false;
  }
  ScopedBatchCuts(const ScopedBatchCuts&) = delete;
  ScopedBatchCuts& operator=(const ScopedBatchCuts&) = delete;

 private:
  ChannelCuts* cuts_;
};

}  // namespace thermocline
