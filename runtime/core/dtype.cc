#include "runtime/core/dtype.h"

#include <algorithm>
#include <cctype>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

constexpr DType Other(uint32_t id) { return static_cast<DType>(id); }

// Block sizes of those types of the GGUF container format that are not types of weights here.
constexpr DTypeInfo kOtherTypes[] = {
    {Other(9), "Q8_1", 32, 36}, {Other(15), "Q8_K", 256, 292}, {Other(19), "IQ1_S", 256, 50},
    {DType::kI8, "I8", 1, 1},   {DType::kI16, "I16", 1, 2},    {DType::kI32, "I32", 1, 4},
    {DType::kI64, "I64", 1, 8}, {DType::kF64, "F64", 1, 8},    {Other(29), "IQ1_M", 256, 56},
};

static_assert(std::all_of(std::begin(kWeightTypes), std::end(kWeightTypes),
                          [](const WeightTypeInfo& info) { return info.stored.computable; }));

template <typename Wanted>
std::string NamesWhere(const Wanted& wanted) {
  std::string names;
  for (const WeightTypeInfo& info : kWeightTypes) {
    if (!wanted(info)) continue;
    if (!names.empty()) names += ", ";
    names += info.stored.name;
  }
  return names;
}

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
  return NamesWhere([](const WeightTypeInfo& /*info*/) { return true; });
}

std::string WrittenDTypeNames() {
  return NamesWhere([](const WeightTypeInfo& info) { return info.written; });
}

DType FittingType(DType wanted, int64_t n) {
  while (n % GetDTypeInfo(wanted).block_elems != 0) {
    wanted = GetWeightTypeInfo(wanted).for_other_rows;
  }
  return wanted;
}

int64_t RowBytes(DType dtype, int64_t n) {
  const DTypeInfo& info = GetDTypeInfo(dtype);
  DCHECK(n % info.block_elems == 0);
  return n / info.block_elems * info.block_bytes;
}

}  // namespace thermocline
