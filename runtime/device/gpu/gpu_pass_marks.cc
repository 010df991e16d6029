#include "runtime/device/gpu/gpu_pass_marks.h"

namespace thermocline {
namespace {

// Every part of a layer once, and what comes before and behind the layers.
int64_t SlotsFor(int64_t n_layers) { return (n_layers + 1) * kPassParts; }

}  // namespace

GpuPassMarks::GpuPassMarks(Stream& stream, int64_t n_layers)
    : stream_(stream), stamps_(SlotsFor(n_layers)) {
  MeasureClock();
}

void GpuPassMarks::Start() {
  notes_.clear();
  set_layer(PassSpan::kNoLayer);
  stamps_.Stamp(stream_, 0);
}

void GpuPassMarks::Mark(PassPart part) {
  notes_.push_back({part, layer()});
  stamps_.Stamp(stream_, static_cast<int64_t>(notes_.size()));
}

void GpuPassMarks::Collect() {
  if (!notes_.empty()) stamps_.Collect(stream_, static_cast<int64_t>(notes_.size()) + 1);
}

std::vector<PassSpan> GpuPassMarks::Spans() const {
  std::vector<PassSpan> spans;
  spans.reserve(notes_.size());
  for (size_t i = 0; i < notes_.size(); ++i) {
    const auto slot = static_cast<int64_t>(i);
    spans.push_back({stamps_.ns(slot) + offset_ns_, stamps_.ns(slot + 1) + offset_ns_,
                     notes_[i].layer, notes_[i].part});
  }
  return spans;
}

}  // namespace thermocline
