#include "runtime/device/gpu/gpu_channels.h"

#include <algorithm>

#include "runtime/core/error.h"
#include "runtime/device/ops.h"

namespace thermocline {
namespace {

uint64_t Elements(const GpuChannels::Limits& limits, int64_t n_tokens) {
  return static_cast<uint64_t>(n_tokens * limits.max_input) * sizeof(float);
}
uint64_t CountBytes(const GpuChannels::Limits& limits) {
  return static_cast<uint64_t>(std::max(limits.max_tokens, kGemmMinTokens)) * sizeof(int32_t);
}
uint64_t KeptBytes(const GpuChannels::Limits& limits) {
  return static_cast<uint64_t>(limits.n_layers) * kCutMatrices * sizeof(int32_t);
}

}  // namespace

GpuChannels::GpuChannels(const Limits& limits)
    : x_(Elements(limits, limits.max_tokens), "inputs with small ones cut"),
      rows_(Elements(limits, kGemmMinTokens - 1), "channels that are kept"),
      values_(Elements(limits, kGemmMinTokens - 1), "channels that are kept"),
      counts_(CountBytes(limits), "counts of channels"),
      workspace_(std::max<uint64_t>(limits.workspace_bytes, 16), "products by column"),
      kept_(KeptBytes(limits), "counts of channels"),
      host_kept_(KeptBytes(limits), "counts of channels") {}

uint64_t GpuChannels::Bytes(const Limits& limits) {
  return Elements(limits, limits.max_tokens) + 2 * Elements(limits, kGemmMinTokens - 1) +
         CountBytes(limits) + limits.workspace_bytes + KeptBytes(limits);
}

GpuRowCut GpuChannels::CutOf(const ChannelCut& cut, const GpuPass& pass) {
  return {.rows = pass.rows,
          .first_position = static_cast<int32_t>(kUncutPositions),
          .least = cut.least,
          .factors = cut.factors};
}

int32_t* GpuChannels::Counter(const ChannelCut& cut) {
  notes_.push_back({cut.counter, cut.kept});
  return kept_.as<int32_t>() + cut.counter;
}

GpuChannelList GpuChannels::List(Stream& stream, const ChannelCut& cut, const GpuRowCut& row_cut,
                                 const float* x, int64_t n, int64_t d, int32_t* listed) {
  CHECK(n < kGemmMinTokens && static_cast<uint64_t>(n * d) * sizeof(float) <= values_.size());
  const GpuListMemory memory{rows_.as<int32_t>(), values_.as<float>(), counts_.as<int32_t>()};
  GpuListChannels(stream, x, row_cut, n, d, memory, Counter(cut), listed);
  return memory.list();
}

const float* GpuChannels::Cut(Stream& stream, const ChannelCut& cut, const GpuRowCut& row_cut,
                              const float* x, int64_t n, int64_t d, float* out) {
  if (out == nullptr) out = x_.as<float>();
  CHECK(static_cast<uint64_t>(n * d) * sizeof(float) <= x_.size() || out != x_.as<float>());
  GpuCutChannels(stream, x, row_cut, n, d, out, counts_.as<int32_t>(), Counter(cut));
  return out;
}

void GpuChannels::Multiply(Stream& stream, const GpuMatrix& w, const GpuChannelList& list,
                           int64_t n, const float* bias, float* y) {
  CHECK(GpuColumnsBytes(w, n) <= workspace_.size());
  GpuAddColumns(stream, w, list, n, bias, workspace_.as<void>(), y);
}

uint64_t GpuChannels::SendCounts(Stream& stream) {
  if (notes_.empty()) return 0;
  stream.Copy(host_kept_.device<void>(), kept_.as<void>(), kept_.size());
  return kept_.size();
}

void GpuChannels::AddCounts() {
  for (const Note& note : notes_) {
    note.kept->fetch_add(host_kept_.host<int32_t>()[note.counter], std::memory_order_relaxed);
  }
  notes_.clear();
}

}  // namespace thermocline
