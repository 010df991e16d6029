// The parts of a pass on the GPU's stream: each mark enqueues a stamp
// (gpu_kernels/base/pass_stamps.h). A pass that is captured is marked once; its notes say what the
// stamps of a replay mean.
#pragma once

#include <cstdint>
#include <vector>

#include "gpu_kernels/base/pass_stamps.h"
#include "gpu_kernels/base/stream.h"
#include "runtime/timing/pass_timer.h"

namespace thermocline {

class GpuPassMarks final : public PassMarker {
 public:
  struct Note {
    PassPart part;
    int32_t layer;
  };
  // stream: outlives it, and is waited for here. n_layers: of the model.
  GpuPassMarks(Stream& stream, int64_t n_layers);

  // Where a pass begins on the stream.
  void Start();
  void Mark(PassPart part) override;
  const std::vector<Note>& notes() const { return notes_; }
  void set_notes(const std::vector<Note>& notes) { notes_ = notes; }
  void MeasureClock() { offset_ns_ = MeasureClockOffsetNs(stream_, stamps_); }

  // Brings the stamps to the host; asynchronous.
  void Collect();
  // REQUIRES: collected, and the stream has been waited for.
  std::vector<PassSpan> Spans() const;

 private:
  Stream& stream_;
  GpuStamps stamps_;         // the start, then one per note
  std::vector<Note> notes_;  // of the pass at hand
  int64_t offset_ns_ = 0;    // from the GPU's clock to the host's
};

}  // namespace thermocline
