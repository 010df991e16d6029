// Batches on a device that works behind the host, with the weights of the other tiers' neurons
// streamed to it (runtime/device/weight_stream.h); and what decides between that and computing them
// where they lie.
#pragma once

#include <cstdint>
#include <memory>

#include "runtime/pass/queued_runner.h"

namespace thermocline {

class StreamedRunner final : public QueuedRunner {
 public:
  // max_neurons: the most that a layer has on any other tier.
  StreamedRunner(PassContext& context, QueuedDevice& queued, int64_t max_neurons);

  // Whether a pass of n rows is run like this; counted. The first time rates are measured.
  // Observers want h of the other tiers' neurons in host memory, which those tiers leave there. Of
  // rows that use adapters cold neurons stay with the host, where these neurons' factors lie.
  bool Chooses(int64_t n);
  const StreamUse& use() const { return use_; }
  WeightStream& stream() { return *stream_; }

  void Attention(const Lanes& lanes, int64_t layer, const Pass& pass) override;
  void Ffn(const Lanes& lanes, int64_t layer, const Pass& pass) override;

 private:
  void RunSlowTiers(const Pass& pass, int64_t layer_begin, int64_t layer_end) override;
  void Measure(int64_t n);
  double MeasureCpu(const FfnSlice& slice, int64_t layer, size_t tier, int64_t n);

  std::unique_ptr<WeightStream> stream_;
  StreamUse use_;
};

}  // namespace thermocline
