// The parts of a step on the GPU's stream: each mark enqueues a stamp
// (gpu_kernels/base/step_stamps.h). A step that is captured is marked once; its notes say what the
// stamps of a replay mean.
#pragma once

#include <cstdint>
#include <vector>

#include "gpu_kernels/base/step_stamps.h"
#include "gpu_kernels/base/stream.h"
#include "runtime/timing/step_timer.h"

namespace thermocline {

class GpuStepMarks final : public StepMarker {
 public:
  struct Note {
    StepPart part;
    int32_t layer;
  };
  // stream: outlives it, and is waited for here. n_layers: of the model.
  GpuStepMarks(Stream& stream, int64_t n_layers);

  // Where a step begins on the stream.
  void Start();
  void Mark(StepPart part) override;
  const std::vector<Note>& notes() const { return notes_; }
  void set_notes(const std::vector<Note>& notes) { notes_ = notes; }
  void MeasureClock() { offset_ns_ = MeasureClockOffsetNs(stream_, stamps_); }

  // Brings the stamps to the host; asynchronous.
  void Collect();
  // REQUIRES: collected, and the stream has been waited for.
  std::vector<StepSpan> Spans() const;

 private:
  Stream& stream_;
  GpuStamps stamps_;         // the start, then one per note
  std::vector<Note> notes_;  // of the step at hand
  int64_t offset_ns_ = 0;    // from the GPU's clock to the host's
};

}  // namespace thermocline
