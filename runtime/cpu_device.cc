#include "runtime/cpu_device.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "runtime/core/checked_math.h"
#include "runtime/core/error.h"

namespace thermocline {
namespace {

constexpr VectorForm kForms[] = {VectorForm::kF32, VectorForm::kBF16, VectorForm::kQ8};
constexpr int64_t kRowUnit = 8;  // rows a lane's share of a matrix is cut at

int64_t PreparedBytes(const KernelTable& kernels, int64_t d) {
  int64_t most = 0;
  for (const VectorForm form : kForms) {
    most = std::max(most, kernels.prepared_bytes(form, AlignUp(d, kQuantBlock)));
  }
  return most * (kGemmMinTokens - 1);
}

uint64_t ScoresBytes(int64_t max_seq_len) {
  return static_cast<uint64_t>(max_seq_len) * sizeof(float);
}
uint64_t IndicesBytes(int64_t max_neurons) {
  return static_cast<uint64_t>(max_neurons + 16) * sizeof(int32_t);
}

}  // namespace

uint64_t CpuDeviceLimits::ScratchBytes(const KernelTable& kernels) const {
  const uint64_t per_lane = static_cast<uint64_t>(PreparedBytes(kernels, max_d_in)) +
                            ScoresBytes(max_seq_len) + IndicesBytes(max_neurons) +
                            PanelGemm::PanelBytes(kernels, max_d_in);
  return per_lane * static_cast<uint64_t>(n_lanes) +
         PanelGemm::InputBytes(kernels, max_tokens, max_d_in);
}

CpuDeviceLimits MakeCpuDeviceLimits(const ModelConfig& config, int64_t max_tokens,
                                    int64_t max_seq_len, int n_lanes) {
  return {.n_lanes = n_lanes,
          .max_tokens = max_tokens,
          .max_d_in = std::max({config.d_model, config.d_ff, config.q_dim()}),
          .max_neurons = config.d_ff,
          .max_seq_len = max_seq_len};
}

CpuDevice::CpuDevice(std::string name, const CpuDeviceLimits& limits)
    : kernels_(CpuKernels()), name_(std::move(name)) {
  for (int i = 0; i < limits.n_lanes; ++i) {
    auto lane = std::make_unique<LaneScratch>();
    lane->prepared = AlignedBuffer(static_cast<uint64_t>(PreparedBytes(kernels_, limits.max_d_in)),
                                   "activation vectors");
    lane->scores = AlignedBuffer(ScoresBytes(limits.max_seq_len), "attention scores");
    lane->indices = AlignedBuffer(IndicesBytes(limits.max_neurons), "neuron lists");
    lane->gemm = std::make_unique<PanelGemm>(kernels_, limits.max_d_in);
    lanes_.push_back(std::move(lane));
  }
  gemm_input_ = AlignedBuffer(PanelGemm::InputBytes(kernels_, limits.max_tokens, limits.max_d_in),
                              "prefill inputs");
  allocated_bytes_ = limits.ScratchBytes(kernels_);
}

void* CpuDevice::Allocate(uint64_t n_bytes, const std::string& purpose) {
  buffers_.emplace_back(n_bytes, purpose);
  allocated_bytes_ += n_bytes;
  return buffers_.back().data();
}

void CpuDevice::Upload(void* destination, const void* source, uint64_t n_bytes) {
  std::memcpy(destination, source, n_bytes);
}

const std::byte* CpuDevice::Prepare(const Lane& lane, VectorForm form, const float* x, int64_t d) {
  if (form == VectorForm::kF32) return reinterpret_cast<const std::byte*>(x);
  std::byte* out = scratch(lane).prepared.bytes();
  kernels_.prepare(form, x, d, out);
  return out;
}

void CpuDevice::Embed(const Lane& lane, const TensorView& table, std::span<const int32_t> ids,
                      float* x) {
  const auto [begin, end] = lane.Split(static_cast<int64_t>(ids.size()));
  for (int64_t t = begin; t < end; ++t) {
    const int32_t id = ids[static_cast<size_t>(t)];
    DCHECK(id >= 0 && id < table.rows);
    kernels_.dequantize_f32(table.dtype, table.row(id), 0, table.cols, x + t * table.cols);
  }
  lane.Sync();
}

void CpuDevice::RmsNorm(const Lane& lane, const float* x, const float* weight, float eps, int64_t n,
                        int64_t d, float* out) {
  const auto [begin, end] = lane.Split(n);
  for (int64_t t = begin; t < end; ++t) {
    kernels_.rms_norm(x + t * d, weight, d, eps, out + t * d);
  }
  lane.Sync();
}

void CpuDevice::Linear(const Lane& lane, std::span<const LinearStep> steps, const float* x,
                       int64_t n) {
  if (n < MinGemmTokens()) {
    LinearRows(lane, steps, x, n);
  } else {
    LinearPanels(lane, steps, x, n);
  }
  lane.Sync();
}

// Each lane takes the same share of every matrix; with one row length for all of them (they read
// the same x) and one type, which is the rule, shares are equal in bytes.
void CpuDevice::LinearRows(const Lane& lane, std::span<const LinearStep> steps, const float* x,
                           int64_t n) {
  const int64_t d_in = steps.front().weights->w.cols;
  for (int64_t t = 0; t < n; ++t) {
    const std::byte* prepared = nullptr;
    VectorForm prepared_form{};
    for (const LinearStep& step : steps) {
      const TensorView& w = step.weights->w;
      const VectorForm form = kernels_.vector_form(w.dtype);
      if (prepared == nullptr || form != prepared_form) {
        prepared = Prepare(lane, form, x + t * d_in, d_in);
        prepared_form = form;
      }
      const auto [begin, end] = lane.Split(w.rows, kRowUnit);
      float* out = step.out + t * w.rows;
      kernels_.matvec(w.dtype, w.data, w.row_stride_bytes, w.cols, prepared, nullptr, begin, end,
                      out);
      if (step.weights->bias != nullptr) {
        kernels_.add(out + begin, step.weights->bias + begin, end - begin);
      }
    }
  }
}

void CpuDevice::RopeAppend(const Lane& lane, const RopeStep& rope, const KvCache& cache,
                           const AttentionStep& step, float* q, float* k, const float* v) {
  const int64_t n_frequencies = rope.rot_dim / 2;
  const auto turn = [&](float* head, int64_t token) {
    kernels_.rope(rope.pairing, head, rope.rot_dim, rope.cos + token * n_frequencies,
                  rope.sin + token * n_frequencies);
  };
  const auto [q_begin, q_end] = lane.Split(step.n * step.n_heads);
  for (int64_t i = q_begin; i < q_end; ++i) turn(q + i * step.head_dim, i / step.n_heads);
  const auto [k_begin, k_end] = lane.Split(step.n * step.n_kv_heads);
  for (int64_t i = k_begin; i < k_end; ++i) {
    const int64_t token = i / step.n_kv_heads;
    turn(k + i * step.head_dim, token);
    const KvRun run = cache.RunAt(step.layer, i % step.n_kv_heads, step.first_position + token);
    kernels_.f32_to_f16(k + i * step.head_dim, step.head_dim, run.k);
    kernels_.f32_to_f16(v + i * step.head_dim, step.head_dim, run.v);
  }
  lane.Sync();
}

void CpuDevice::Attend(const Lane& lane, const KvCache& cache, const AttentionStep& step,
                       const float* q, float* out) {
  const int64_t d = step.head_dim;
  const float scale = 1.0F / std::sqrt(static_cast<float>(d));
  const int64_t group = step.n_heads / step.n_kv_heads;
  // Later tokens see more positions; dealing heads out in turn keeps the lanes even.
  for (int64_t i = lane.rank; i < step.n * step.n_heads; i += lane.size) {
    const int64_t n_kv = step.first_position + i / step.n_heads + 1;
    const KvRun run = cache.RunAt(step.layer, i % step.n_heads / group, 0);
    CHECK(run.n_tokens >= n_kv);
    kernels_.attend(q + i * d, run.k, run.v, n_kv, d, d, scale, scratch(lane).scores.as<float>(),
                    out + i * d);
  }
  lane.Sync();
}

void CpuDevice::Add(const Lane& lane, float* x, std::span<const float* const> ys, int64_t n) {
  const auto [begin, end] = lane.Split(n, 16);
  for (const float* y : ys) kernels_.add(x + begin, y + begin, end - begin);
  lane.Sync();
}

void CpuDevice::AddRmsNorm(const Lane& lane, float* x, const float* y, const float* weight,
                           float eps, int64_t n, int64_t d, float* out) {
  const auto [begin, end] = lane.Split(n);
  kernels_.add(x + begin * d, y + begin * d, (end - begin) * d);
  RmsNorm(lane, x, weight, eps, n, d, out);
}

}  // namespace thermocline
