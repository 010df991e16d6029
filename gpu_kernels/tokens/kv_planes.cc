#include "gpu_kernels/tokens/kv_planes.h"

#include <algorithm>
#include <string>

#include "gpu_kernels/tokens/kv_page_copy.h"
#include "runtime/core/error.h"

namespace thermocline {
namespace {

// Elements of keys, or of values, in one layer.
int64_t LayerElems(const GpuKvCache::Shape& shape) {
  return shape.n_kv_heads * shape.n_slots * shape.head_dim;
}

uint64_t ValueBytes(const GpuKvCache::Shape& shape) {
  const int64_t elem_bytes = shape.dtype == DType::kF16 ? 2 : 1;
  return static_cast<uint64_t>(2 * shape.n_layers * LayerElems(shape) * elem_bytes);
}

uint64_t ScaleBytes(const GpuKvCache::Shape& shape) {
  if (shape.dtype == DType::kF16) return 0;
  return static_cast<uint64_t>(2 * shape.n_layers * (LayerElems(shape) / kQuantBlock)) *
         sizeof(uint16_t);
}

void Validate(const GpuKvCache::Shape& shape) {
  if (shape.dtype != DType::kF16 && shape.dtype != DType::kQ8_0) {
    throw Error({.what = "the KV cache on the GPU cannot be stored like this",
                 .expected = "F16 or Q8_0",
                 .found = std::string(DTypeName(shape.dtype)),
                 .hint = "store keys and values in f16",
                 .settings = {{Setting::kCacheType, "f16"}}});
  }
  const int64_t unit = shape.dtype == DType::kF16 ? 8 : kQuantBlock;
  if (shape.head_dim % unit != 0 || shape.head_dim <= 0 || shape.head_dim > kMaxGpuHeadDim) {
    throw Error(
        {.what = "attention on the GPU does not take this model's heads with a KV cache of " +
                 std::string(DTypeName(shape.dtype)),
         .expected = "a head_dim that is a multiple of " + std::to_string(unit) + ", at most " +
                     std::to_string(kMaxGpuHeadDim),
         .found = std::to_string(shape.head_dim),
         .hint = "run the model without a GPU, or store keys and values in f16",
         .settings = {{Setting::kFastTier, "cpu"}, {Setting::kCacheType, "f16"}}});
  }
}

}  // namespace

GpuKvCache::GpuKvCache(const Shape& shape) : shape_(shape) {
  Validate(shape);
  values_ = DeviceMemory(ValueBytes(shape), "the KV cache");
  scales_ = DeviceMemory(ScaleBytes(shape), "the KV cache's scales");
}

uint64_t GpuKvCache::Bytes(const Shape& shape) { return ValueBytes(shape) + ScaleBytes(shape); }

GpuKvLayer GpuKvCache::Layer(int64_t layer) const {
  CHECK(layer >= 0 && layer < shape_.n_layers);
  const uint64_t value_bytes = ValueBytes(shape_) / static_cast<uint64_t>(2 * shape_.n_layers);
  const uint64_t n_scales =
      ScaleBytes(shape_) / sizeof(uint16_t) / static_cast<uint64_t>(2 * shape_.n_layers);
  const auto plane = static_cast<uint64_t>(2 * layer);
  GpuKvLayer result{.dtype = shape_.dtype,
                    .n_kv_heads = shape_.n_kv_heads,
                    .head_dim = shape_.head_dim,
                    .n_slots = shape_.n_slots,
                    .k = values_.as<std::byte>() + plane * value_bytes,
                    .v = values_.as<std::byte>() + (plane + 1) * value_bytes};
  if (n_scales != 0) {
    result.k_scales = scales_.as<uint16_t>() + plane * n_scales;
    result.v_scales = scales_.as<uint16_t>() + (plane + 1) * n_scales;
  }
  return result;
}

void GpuKvCache::CopyPage(Stream& stream, int64_t from, int64_t to) const {
  CHECK((std::max(from, to) + 1) * kGpuKvPageTokens <= shape_.n_slots && std::min(from, to) >= 0);
  const int64_t n_planes = 2 * shape_.n_layers * shape_.n_kv_heads;
  GpuCopyKvPage(stream, values_.as<void>(), ValueBytes(shape_), n_planes, shape_.n_slots, from, to);
  if (ScaleBytes(shape_) == 0) return;
  GpuCopyKvPage(stream, scales_.as<void>(), ScaleBytes(shape_), n_planes, shape_.n_slots, from, to);
}

void GpuKvCache::CopySlot(Stream& stream, int64_t from, int64_t to) const {
  CHECK(std::max(from, to) < shape_.n_slots && std::min(from, to) >= 0);
  const int64_t n_planes = 2 * shape_.n_layers * shape_.n_kv_heads;
  GpuCopyKvSlot(stream, values_.as<void>(), ValueBytes(shape_), n_planes, shape_.n_slots, from, to);
  if (ScaleBytes(shape_) == 0) return;
  GpuCopyKvSlot(stream, scales_.as<void>(), ScaleBytes(shape_), n_planes, shape_.n_slots, from, to);
}

uint64_t GpuKvCache::PageBytes() const {
  return Bytes(shape_) / static_cast<uint64_t>(shape_.n_slots / kGpuKvPageTokens);
}

template <typename Visit>
void GpuKvCache::VisitPage(int64_t page, const Visit& visit) const {
  CHECK(page >= 0 && (page + 1) * kGpuKvPageTokens <= shape_.n_slots);
  const int64_t n_planes = 2 * shape_.n_layers * shape_.n_kv_heads;
  const auto planes = [&](const DeviceMemory& memory, uint64_t n_bytes) {
    const uint64_t plane_bytes = n_bytes / static_cast<uint64_t>(n_planes);
    const uint64_t part = plane_bytes / static_cast<uint64_t>(shape_.n_slots / kGpuKvPageTokens);
    for (int64_t plane = 0; part > 0 && plane < n_planes; ++plane) {
      visit(memory.as<std::byte>() + static_cast<uint64_t>(plane) * plane_bytes +
                static_cast<uint64_t>(page) * part,
            part);
    }
  };
  planes(values_, ValueBytes(shape_));
  planes(scales_, ScaleBytes(shape_));
}

void GpuKvCache::ReadPage(Stream& stream, int64_t page, std::byte* to) const {
  VisitPage(page, [&](const std::byte* from, uint64_t n_bytes) {
    stream.Copy(to, from, n_bytes);
    to += n_bytes;
  });
  stream.Synchronize();
}

void GpuKvCache::WritePage(Stream& stream, int64_t page, const std::byte* from) const {
  VisitPage(page, [&](std::byte* to, uint64_t n_bytes) {
    stream.Copy(to, from, n_bytes);
    from += n_bytes;
  });
  stream.Synchronize();
}

}  // namespace thermocline
