#include "runtime/device/gpu/gpu_low_rank.h"

#include <algorithm>

#include "runtime/core/checked_math.h"
#include "runtime/core/error.h"

namespace thermocline {
namespace {

uint64_t WordsBytes(int64_t n_adapters, int64_t n_rows) {
  return static_cast<uint64_t>(n_adapters * CeilDiv(n_rows, kGpuAdapterWordRows)) *
         sizeof(uint32_t);
}
uint64_t InnerFloats(const GpuLowRank::Limits& limits) {
  return static_cast<uint64_t>(limits.max_tokens) * static_cast<uint64_t>(limits.total_rank);
}
uint64_t AllInnerBytes(const GpuLowRank::Limits& limits) {
  return GpuLowRank::kMaxProducts * InnerFloats(limits) * sizeof(float);
}

}  // namespace

GpuLowRank::GpuLowRank(const Limits& limits)
    : limits_(limits),
      host_words_(WordsBytes(limits.n_adapters, limits.max_tokens), "which rows use adapters"),
      device_words_(host_words_.size(), "which rows use adapters"),
      inner_(AllInnerBytes(limits), "adapters") {}

uint64_t GpuLowRank::Bytes(const Limits& limits) {
  return WordsBytes(limits.n_adapters, limits.max_tokens) + AllInnerBytes(limits);
}

void GpuLowRank::Set(const AdapterRows& rows, int64_t n_rows) {
  CHECK(n_rows >= 1 && n_rows <= limits_.max_tokens && rows.total_rank() <= limits_.total_rank);
  rows_ = {device_words_.as<uint32_t>(), CeilDiv(n_rows, kGpuAdapterWordRows), n_rows};
  auto* const words = host_words_.host<uint32_t>();
  std::fill_n(words, limits_.n_adapters * rows_.n_words, 0U);
  for (const AdapterRows::Group& group : rows.groups()) {
    CHECK(group.adapter < limits_.n_adapters);
    for (const int32_t row : group.rows) {
      words[group.adapter * rows_.n_words + row / kGpuAdapterWordRows] |=
          1U << (row % kGpuAdapterWordRows);
    }
  }
}

uint64_t GpuLowRank::Send(Stream& stream) {
  const uint64_t n_bytes = WordsBytes(limits_.n_adapters, rows_.n_rows);
  stream.Copy(device_words_.as<void>(), host_words_.device<void>(), n_bytes);
  return n_bytes;
}

bool GpuLowRank::Product::changes() const {
  return std::ranges::any_of(factors, [](const GpuLowRankFactors& f) { return f.rank > 0; });
}

void GpuLowRank::Add(Stream& stream, std::span<const Product> products, const float* x,
                     int64_t d_in, GpuLowRankInto into) {
  CHECK(products.size() <= kMaxProducts);
  std::vector<GpuLowRankOp> ops;
  for (const Product& product : products) {
    float* const inner = inner_.as<float>() + ops.size() * InnerFloats(limits_);
    ops.push_back({product.factors, product.out, product.d_out, inner});
  }
  GpuAddLowRank(stream, ops, rows_, x, d_in, into);
}

}  // namespace thermocline
