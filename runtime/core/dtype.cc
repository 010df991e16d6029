#include "runtime/core/dtype.h"

#include <algorithm>
#include <cctype>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

constexpr DType Other(uint32_t id) { return static_cast<DType>(id); }

// Block sizes of those types of the GGUF container format that are not types of weights here.
constexpr DTypeInfo kOtherTypes[] = {
    {Other(6), "Q5_0", 32, 22},      {Other(7), "Q5_1", 32, 24},
    {Other(9), "Q8_1", 32, 36},      {Other(10), "Q2_K", 256, 84},
    {Other(11), "Q3_K", 256, 110},   {Other(12), "Q4_K", 256, 144},
    {Other(13), "Q5_K", 256, 176},   {Other(15), "Q8_K", 256, 292},
    {Other(16), "IQ2_XXS", 256, 66}, {Other(17), "IQ2_XS", 256, 74},
    {Other(18), "IQ3_XXS", 256, 98}, {Other(19), "IQ1_S", 256, 50},
    {Other(20), "IQ4_NL", 32, 18},   {Other(21), "IQ3_S", 256, 110},
    {Other(22), "IQ2_S", 256, 82},   {Other(23), "IQ4_XS", 256, 136},
    {DType::kI8, "I8", 1, 1},        {DType::kI16, "I16", 1, 2},
    {DType::kI32, "I32", 1, 4},      {DType::kI64, "I64", 1, 8},
    {DType::kF64, "F64", 1, 8},      {Other(29), "IQ1_M", 256, 56},
    {Other(34), "TQ1_0", 256, 54},   {Other(35), "TQ2_0", 256, 66},
    {Other(39), "MXFP4", 32, 17},
};

static_assert(std::all_of(std::begin(kWeightTypes), std::end(kWeightTypes),
                          [](const WeightTypeInfo& info) { return info.stored.computable; }));

}  // namespace

const DTypeInfo* FindDType(uint32_t gguf_type_id) {
  for (const WeightTypeInfo& info : kWeightTypes) {
    if (static_cast<uint32_t>(info.stored.dtype) == gguf_type_id) return &info.stored;
  }
  for (const DTypeInfo& info : kOtherTypes) {
    if (static_cast<uint32_t>(info.dtype) == gguf_type_id) return &info;
  }
  return nullptr;
}

const DTypeInfo& GetDTypeInfo(DType dtype) {
  const DTypeInfo* info = FindDType(static_cast<uint32_t>(dtype));
  CHECK(info != nullptr);
  return *info;
}

const WeightTypeInfo& GetWeightTypeInfo(DType dtype) {
  for (const WeightTypeInfo& info : kWeightTypes) {
    if (info.stored.dtype == dtype) return info;
  }
  CheckFailed(__FILE__, __LINE__, "a type of weights");
}

std::string_view DTypeName(DType dtype) { return GetDTypeInfo(dtype).name; }

std::optional<DType> ParseWeightDType(std::string_view name) {
  std::string upper(name);
  std::transform(upper.begin(), upper.end(), upper.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  for (const WeightTypeInfo& info : kWeightTypes) {
    if (info.stored.name == upper) return info.stored.dtype;
  }
  return std::nullopt;
}

std::string WeightDTypeNames() {
  std::string names;
  for (const WeightTypeInfo& info : kWeightTypes) {
    if (!names.empty()) names += ", ";
    names += info.stored.name;
  }
  return names;
}

int64_t RowBytes(DType dtype, int64_t n) {
  const DTypeInfo& info = GetDTypeInfo(dtype);
  DCHECK(n % info.block_elems == 0);
  return n / info.block_elems * info.block_bytes;
}

}  // namespace thermocline
