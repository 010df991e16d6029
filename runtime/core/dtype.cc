#include "runtime/core/dtype.h"

#include <algorithm>
#include <cctype>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

constexpr DType Other(uint32_t id) { return static_cast<DType>(id); }

// Block sizes of the GGUF container format's types.
constexpr DTypeInfo kTypes[] = {
    {DType::kF32, "F32", 1, 4, true},       {DType::kF16, "F16", 1, 2, true},
    {DType::kQ4_0, "Q4_0", 32, 18, true},   {Other(3), "Q4_1", 32, 20, false},
    {Other(6), "Q5_0", 32, 22, false},      {Other(7), "Q5_1", 32, 24, false},
    {DType::kQ8_0, "Q8_0", 32, 34, true},   {Other(9), "Q8_1", 32, 36, false},
    {Other(10), "Q2_K", 256, 84, false},    {Other(11), "Q3_K", 256, 110, false},
    {Other(12), "Q4_K", 256, 144, false},   {Other(13), "Q5_K", 256, 176, false},
    {DType::kQ6_K, "Q6_K", 256, 210, true}, {Other(15), "Q8_K", 256, 292, false},
    {Other(16), "IQ2_XXS", 256, 66, false}, {Other(17), "IQ2_XS", 256, 74, false},
    {Other(18), "IQ3_XXS", 256, 98, false}, {Other(19), "IQ1_S", 256, 50, false},
    {Other(20), "IQ4_NL", 32, 18, false},   {Other(21), "IQ3_S", 256, 110, false},
    {Other(22), "IQ2_S", 256, 82, false},   {Other(23), "IQ4_XS", 256, 136, false},
    {DType::kI8, "I8", 1, 1, false},        {DType::kI16, "I16", 1, 2, false},
    {DType::kI32, "I32", 1, 4, false},      {DType::kI64, "I64", 1, 8, false},
    {DType::kF64, "F64", 1, 8, false},      {Other(29), "IQ1_M", 256, 56, false},
    {DType::kBF16, "BF16", 1, 2, true},     {Other(34), "TQ1_0", 256, 54, false},
    {Other(35), "TQ2_0", 256, 66, false},   {Other(39), "MXFP4", 32, 17, false},
};

}  // namespace

const DTypeInfo* FindDType(uint32_t gguf_type_id) {
  for (const DTypeInfo& info : kTypes) {
    if (static_cast<uint32_t>(info.dtype) == gguf_type_id) return &info;
  }
  return nullptr;
}

const DTypeInfo& GetDTypeInfo(DType dtype) {
  const DTypeInfo* info = FindDType(static_cast<uint32_t>(dtype));
  CHECK(info != nullptr);
  return *info;
}

std::string_view DTypeName(DType dtype) { return GetDTypeInfo(dtype).name; }

std::optional<DType> ParseWeightDType(std::string_view name) {
  std::string upper(name);
  std::transform(upper.begin(), upper.end(), upper.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  for (const DTypeInfo& info : kTypes) {
    if (info.computable && info.name == upper) return info.dtype;
  }
  return std::nullopt;
}

std::string WeightDTypeNames() { return "F32, F16, BF16, Q8_0, Q6_K, Q4_0"; }

int64_t RowBytes(DType dtype, int64_t n) {
  const DTypeInfo& info = GetDTypeInfo(dtype);
  DCHECK(n % info.block_elems == 0);
  return n / info.block_elems * info.block_bytes;
}

}  // namespace thermocline
