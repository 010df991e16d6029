#include "runtime/synth/synth_factors.h"

#include <cmath>

#include "runtime/core/error.h"
#include "runtime/synth/synth_random.h"
#include "runtime/threads/sgemm.h"

namespace thermocline {
namespace {

constexpr float kInMost = 127;
constexpr float kOutMost = 15;
static_assert(kInMost * kOutMost * static_cast<float>(kMaxGateRank) < 16777216.0F,
              "sums of products are exact below 2^24");

// Returns the variance of such integers. NearNormal lies between -2 and 2 and has a variance of
// 1/3; rounding to integers adds 1/12.
double Variance(float most) {
  const double step = 0.5 * static_cast<double>(most);
  return step * step / 3 + 1.0 / 12;
}

// Returns (rows, cols) integers from -most to most. `which` names one of the layer's two factors.
std::vector<float> Integers(const SynthOptions& options, int64_t layer, uint64_t which,
                            int64_t rows, int64_t cols, float most) {
  std::vector<float> out(static_cast<size_t>(rows * cols));
  for (int64_t r = 0; r < rows; ++r) {
    // The id differs from those of stored rows, which have no top bit.
    const uint64_t id =
        (uint64_t{2} + which) << 62 | static_cast<uint64_t>(layer) << 32 | static_cast<uint64_t>(r);
    uint64_t counter = MixBits(options.seed ^ MixBits(id));
    for (int64_t c = 0; c < cols; ++c) {
      counter += kCounterStep;
      out[static_cast<size_t>(r * cols + c)] =
          std::nearbyint(NearNormal(MixBits(counter)) * 0.5F * most);
    }
  }
  return out;
}

std::vector<float> Times(std::vector<float> values, float scale) {
  for (float& value : values) value *= scale;
  return values;
}

}  // namespace

GateFactors::GateFactors(const SynthOptions& options, int64_t layer)
    : rank_(options.gate_rank),
      d_model_(options.d_model),
      in_scale_(1 / std::sqrt(static_cast<float>(Variance(kInMost)) *
                              static_cast<float>(options.d_model))),
      out_scale_(1 / std::sqrt(static_cast<float>(Variance(kOutMost)) *
                               static_cast<float>(options.gate_rank))) {
  CHECK(rank_ > 0 && rank_ <= kMaxGateRank);
  in_ = Integers(options, layer, 0, rank_, d_model_, kInMost);
  out_ = Integers(options, layer, 1, options.d_ff, rank_, kOutMost);
}

void GateFactors::MakeRows(int64_t begin, int64_t end, float* rows) const {
  Sgemm(false, false, end - begin, d_model_, rank_, out_.data() + begin * rank_, rank_, in_.data(),
        d_model_, rows, d_model_);
  const float scale = in_scale_ * out_scale_;
  for (int64_t i = 0; i < (end - begin) * d_model_; ++i) rows[i] *= scale;
}

LowRank GateFactors::Scaled() const { return {Times(in_, in_scale_), Times(out_, out_scale_)}; }

}  // namespace thermocline
