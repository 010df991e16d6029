#include "runtime/safetensors/safetensors.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>

#include "runtime/core/checked_math.h"
#include "runtime/core/error.h"
#include "runtime/safetensors/bounded_json.h"

namespace thermocline {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kLengthBytes = 8;
// What the format itself allows a header.
constexpr JsonBounds kHeaderBounds = {
    .max_bytes = 100'000'000, .max_depth = 4, .max_values = 16'000'000};
constexpr size_t kMaxDims = 8;
constexpr size_t kMaxNameBytes = 1024;
constexpr const char* kDamagedShard = "the file is damaged or cut off: download it again";

constexpr SafetensorsTypeInfo kTypes[] = {
    {SafetensorsType::kF64, "F64", 8, DType::kF64},
    {SafetensorsType::kF32, "F32", 4, DType::kF32},
    {SafetensorsType::kF16, "F16", 2, DType::kF16},
    {SafetensorsType::kBF16, "BF16", 2, DType::kBF16},
    {SafetensorsType::kF8E4M3, "F8_E4M3", 1, {}},
    {SafetensorsType::kF8E5M2, "F8_E5M2", 1, {}},
    {SafetensorsType::kI64, "I64", 8, DType::kI64},
    {SafetensorsType::kI32, "I32", 4, DType::kI32},
    {SafetensorsType::kI16, "I16", 2, DType::kI16},
    {SafetensorsType::kI8, "I8", 1, DType::kI8},
    {SafetensorsType::kU64, "U64", 8, {}},
    {SafetensorsType::kU32, "U32", 4, {}},
    {SafetensorsType::kU16, "U16", 2, {}},
    {SafetensorsType::kU8, "U8", 1, {}},
    {SafetensorsType::kBool, "BOOL", 1, {}},
};

std::string TypeNames() {
  std::string names;
  for (const SafetensorsTypeInfo& info : kTypes) {
    names += (names.empty() ? "" : ", ") + std::string(info.name);
  }
  return names;
}

// One tensor's entry in a header, on its way to being checked.
class EntryReader {
 public:
  EntryReader(const std::string& path, const std::string& name, const Json& entry)
      : path_(path), name_(name), entry_(entry) {}

  // data_begin, data_bytes: where the tensors' bytes lie in the file.
  SafetensorsTensor Read(uint64_t data_begin, uint64_t data_bytes) const {
    if (name_.empty() || name_.size() > kMaxNameBytes) {
      Fail("a name", fmt::format("of 1 to {} bytes", kMaxNameBytes),
           fmt::format("{} bytes", name_.size()));
    }
    SafetensorsTensor tensor;
    tensor.name = name_;
    tensor.type = ReadType();
    ReadShape(&tensor);
    const std::vector<uint64_t> offsets = Integers("data_offsets", 2);
    const uint64_t begin = offsets.front();
    const uint64_t end = offsets.back();
    if (offsets.size() != 2 || begin > end || end > data_bytes) {
      Fail("data_offsets", fmt::format("a begin and an end within {} bytes", data_bytes),
           fmt::format("{}", offsets), kDamagedShard);
    }
    if (end - begin != tensor.n_bytes) {
      Fail("data_offsets",
           fmt::format("{} bytes, for {} of {}", tensor.n_bytes, ShapeText(tensor.shape),
                       tensor.info().name),
           fmt::format("{}", end - begin));
    }
    tensor.begin = data_begin + begin;
    return tensor;
  }

 private:
  [[noreturn]] void Fail(const std::string& what, std::string expected, std::string found,
                         std::string hint = "") const {
    throw Error({.path = path_,
                 .what = fmt::format("tensor {}: {}", Printable(name_), what),
                 .expected = std::move(expected),
                 .found = std::move(found),
                 .hint = std::move(hint)});
  }

  const Json& Member(const char* key) const {
    if (!entry_.is_object()) Fail("its entry", "an object", JsonKind(entry_));
    const auto member = entry_.find(key);
    if (member == entry_.end()) Fail(key, "to be there", "no such key");
    return *member;
  }

  SafetensorsType ReadType() const {
    const Json& value = Member("dtype");
    if (value.is_string()) {
      const auto* type = std::ranges::find(kTypes, value.get_ref<const std::string&>(),
                                           &SafetensorsTypeInfo::name);
      if (type != std::end(kTypes)) return type->type;
    }
    Fail("dtype", TypeNames(), JsonKind(value));
  }

  std::vector<uint64_t> Integers(const char* key, size_t at_least) const {
    const Json& value = Member(key);
    std::vector<uint64_t> integers;
    if (value.is_array() && value.size() <= kMaxDims) {
      for (const Json& element : value) {
        if (element.is_number_unsigned()) integers.push_back(element.get<uint64_t>());
      }
      if (integers.size() == value.size() && integers.size() >= at_least) return integers;
    }
    Fail(key, fmt::format("an array of {} to {} integers", at_least, kMaxDims), JsonKind(value));
  }

  void ReadShape(SafetensorsTensor* tensor) const {
    tensor->shape = Integers("shape", 0);
    tensor->n_elements = 1;
    bool fits = true;
    for (const uint64_t dim : tensor->shape) {
      if (dim == 0) Fail("shape", "dimensions of at least 1", ShapeText(tensor->shape));
      fits = fits && CheckedMul(tensor->n_elements, dim, &tensor->n_elements);
    }
    fits = fits && CheckedMul(tensor->n_elements, tensor->info().bytes, &tensor->n_bytes);
    if (!fits || tensor->n_bytes > static_cast<uint64_t>(INT64_MAX)) {
      Fail("shape", "fewer than 2^63 bytes", ShapeText(tensor->shape));
    }
  }

  const std::string& path_;
  const std::string& name_;
  const Json& entry_;
};

void CheckApart(const std::vector<SafetensorsTensor>& tensors, const std::string& path) {
  std::vector<const SafetensorsTensor*> sorted;
  sorted.reserve(tensors.size());
  for (const SafetensorsTensor& tensor : tensors) sorted.push_back(&tensor);
  std::ranges::sort(sorted, {}, [](const SafetensorsTensor* tensor) { return tensor->begin; });
  for (size_t i = 1; i < sorted.size(); ++i) {
    if (sorted[i - 1]->begin + sorted[i - 1]->n_bytes <= sorted[i]->begin) continue;
    throw Error({.path = path,
                 .what = fmt::format("tensors {} and {} share bytes",
                                     Printable(sorted[i - 1]->name), Printable(sorted[i]->name)),
                 .expected = "tensors apart from each other",
                 .hint = kDamagedShard});
  }
}

// Returns the header's text.
std::string_view HeaderOf(std::span<const std::byte> bytes, const std::string& path) {
  uint64_t length = 0;
  if (bytes.size() >= kLengthBytes) std::memcpy(&length, bytes.data(), kLengthBytes);
  const uint64_t left = bytes.size() < kLengthBytes ? 0 : bytes.size() - kLengthBytes;
  const auto* text = reinterpret_cast<const char*>(bytes.data());
  if (std::string_view(text, std::min<size_t>(bytes.size(), 7)) == "version") {
    throw Error({.path = path,
                 .what = "not a safetensors file",
                 .found = "text",
                 .hint = "this may be a Git LFS pointer: fetch the file itself"});
  }
  const uint64_t most = std::min(left, kHeaderBounds.max_bytes);
  if (length < 2 || length > most || text[kLengthBytes] != '{') {
    throw Error({.path = path,
                 .what = "not a safetensors file, or one that is cut off",
                 .expected = fmt::format("a JSON header of 2 to {} bytes", most),
                 .found = fmt::format("a length of {}", length),
                 .hint = kDamagedShard});
  }
  return {text + kLengthBytes, length};
}

}  // namespace

const SafetensorsTypeInfo& InfoOf(SafetensorsType type) {
  return kTypes[static_cast<size_t>(type)];
}

std::string ShapeText(const std::vector<uint64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

std::vector<SafetensorsTensor> ParseSafetensors(std::span<const std::byte> bytes,
                                                const std::string& path) {
  const std::string_view text = HeaderOf(bytes, path);
  const Json header = ParseBoundedJson(text, path, kHeaderBounds);
  const uint64_t data_begin = kLengthBytes + text.size();
  std::vector<SafetensorsTensor> tensors;
  tensors.reserve(header.size());
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;  // notes of whoever wrote the file
    tensors.push_back(EntryReader(path, name, entry).Read(data_begin, bytes.size() - data_begin));
  }
  CheckApart(tensors, path);
  return tensors;
}

}  // namespace thermocline
