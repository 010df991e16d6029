#include "runtime/gguf/gguf_parser.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "runtime/core/checked_math.h"
#include "runtime/core/error.h"
#include "runtime/gguf/gguf_cursor.h"
#include "runtime/gguf/gguf_value.h"

namespace thermocline {
namespace {

constexpr uint64_t kMaxKeys = 1'000'000;
constexpr uint64_t kMaxTensors = 1'000'000;
constexpr uint64_t kMaxNameBytes = 64U << 10;
constexpr uint64_t kMinKeyBytes = 8 + 1 + 4 + 1;             // name, type, value
constexpr uint64_t kMinTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;  // name, n_dims, dim, type, offset
constexpr uint64_t kMinAlignment = 8;
constexpr uint64_t kMaxAlignment = 1U << 20;
constexpr uint64_t kMaxBytes = INT64_MAX;

GgufContainer ReadMagic(GgufCursor& cursor) {
  cursor.enter("the header");
  const auto magic = cursor.take(4);
  const std::string found(reinterpret_cast<const char*>(magic.data()), magic.size());
  for (const GgufContainer container : {GgufContainer::kGguf, GgufContainer::kPowerInfer}) {
    if (found == GgufMagic(container)) return container;
  }
  cursor.Fail("not a GGUF file", "the file to begin with 'GGUF', or PowerInfer's 'PWRI'",
              fmt::format("'{}'", Printable(found)),
              found == "vers" ? "this may be a Git LFS pointer: fetch the file itself"
                              : "choose a model in GGUF format");
}

uint32_t ReadVersion(GgufCursor& cursor) {
  const auto version = cursor.read<uint32_t>();
  if (version != 0 && (version & 0xffffU) == 0) {
    cursor.Fail("a big-endian file", "little-endian numbers",
                fmt::format("version {:#010x}", version), "use the little-endian variant");
  }
  if (version != 2 && version != 3) {
    cursor.Fail("unsupported GGUF version", "2 or 3", fmt::format("{}", version),
                version == 1 ? "convert the model again with a newer tool"
                             : "the file is damaged, or newer than this program");
  }
  return version;
}

// Reads a count of the header, of things that take at least item_bytes each.
uint64_t ReadCount(GgufCursor& cursor, std::string_view what, uint64_t most, uint64_t item_bytes) {
  cursor.enter(what);
  const auto count = cursor.read<uint64_t>();
  most = std::min(most, cursor.remaining() / item_bytes);
  if (count > most) {
    cursor.Fail("more than the file can hold", fmt::format("at most {}", most),
                fmt::format("{}", count));
  }
  return count;
}

std::string ReadName(GgufCursor& cursor, std::string_view what) {
  cursor.enter(what);
  std::string name = cursor.ReadString(kMaxNameBytes);
  if (name.empty()) cursor.Fail("an empty name", "at least one character", "none");
  return name;
}

void ReadMetadata(GgufCursor& cursor, uint64_t n_keys, GgufContents* contents) {
  uint64_t elements_left = kMaxArrayElements;
  for (uint64_t i = 0; i < n_keys; ++i) {
    std::string key = ReadName(cursor, "the name of a key");
    cursor.enter("the value of key", key);
    const auto [entry, is_new] = contents->values.try_emplace(key);
    if (!is_new) cursor.Fail("the key is there twice", "each key once", "");
    entry->second = ReadGgufValue(cursor, &elements_left);
    contents->keys.push_back(std::move(key));
  }
}

uint64_t AlignmentOf(const GgufValues& values, const std::string& path) {
  const uint64_t alignment = FindU64(values, "general.alignment", path).value_or(32);
  const bool power_of_two = (alignment & (alignment - 1)) == 0;
  if (alignment < kMinAlignment || alignment > kMaxAlignment || !power_of_two) {
    throw Error(
        {.path = path,
         .what = "key 'general.alignment' is out of range",
         .expected = fmt::format("a power of two from {} to {}", kMinAlignment, kMaxAlignment),
         .found = fmt::format("{}", alignment),
         .hint = kDamagedHint});
  }
  return alignment;
}

// Reads a tensor's dims. PowerInfer writes a layer without neurons on the GPU as a list of length
// 0.
void ReadDims(GgufCursor& cursor, bool may_be_empty_list, GgufTensorInfo* tensor) {
  const auto n_dims = cursor.read<uint32_t>();
  if (n_dims < 1 || n_dims > 4) {
    cursor.Fail("bad number of dimensions", "1 to 4", fmt::format("{}", n_dims));
  }
  tensor->n_elements = 1;
  for (uint32_t i = 0; i < n_dims; ++i) {
    const auto dim = cursor.read<uint64_t>();
    if (dim == 0 && !(may_be_empty_list && n_dims == 1)) {
      cursor.Fail("an empty dimension", "at least 1", "0");
    }
    tensor->dims.push_back(dim);
    if (!CheckedMul(tensor->n_elements, dim, &tensor->n_elements) ||
        tensor->n_elements > kMaxBytes) {
      cursor.Fail("too many elements", fmt::format("at most {}", kMaxBytes),
                  fmt::format("dimensions {}", fmt::join(tensor->dims, " x ")));
    }
  }
}

void ReadDtype(GgufCursor& cursor, GgufTensorInfo* tensor) {
  const auto id = cursor.read<uint32_t>();
  const DTypeInfo* info = FindDType(id);
  if (info == nullptr) {
    cursor.Fail("unknown tensor type", "a known type id", fmt::format("{}", id),
                "the file is damaged, or newer than this program");
  }
  tensor->dtype = info->dtype;
  if (tensor->cols() % info->block_elems != 0) {
    cursor.Fail("bad row length",
                fmt::format("a multiple of {} for {}", info->block_elems, info->name),
                fmt::format("{}", tensor->cols()));
  }
  if (!CheckedMul(tensor->n_elements / info->block_elems, info->block_bytes, &tensor->n_bytes) ||
      tensor->n_bytes > kMaxBytes) {
    cursor.Fail("too large", fmt::format("at most {} bytes", kMaxBytes),
                fmt::format("{} elements of {}", tensor->n_elements, info->name));
  }
}

void ReadTensorTable(GgufCursor& cursor, uint64_t n_tensors, GgufContents* contents) {
  for (uint64_t i = 0; i < n_tensors; ++i) {
    GgufTensorInfo tensor;
    tensor.name = ReadName(cursor, "the name of a tensor");
    cursor.enter("tensor", tensor.name);
    ReadDims(cursor, contents->container == GgufContainer::kPowerInfer, &tensor);
    ReadDtype(cursor, &tensor);
    tensor.offset = cursor.read<uint64_t>();
    if (tensor.offset % contents->alignment != 0) {
      cursor.Fail("misaligned", fmt::format("an offset that {} divides", contents->alignment),
                  fmt::format("{}", tensor.offset));
    }
    if (tensor.n_elements > 0) contents->tensors.push_back(std::move(tensor));
  }
}

// Checks that every tensor lies inside the data section, which begins at the next multiple of the
// alignment.
void CheckInsideFile(GgufCursor& cursor, uint64_t n_file_bytes, GgufContents* contents) {
  uint64_t start = 0;
  const bool fits = CheckedAlignUp(cursor.position(), contents->alignment, &start);
  if (contents->tensors.empty()) start = std::min(start, n_file_bytes);  // padding may be missing
  cursor.enter("the padding before the tensors");
  if (!fits || start > n_file_bytes) (void)cursor.take(start - cursor.position());
  contents->data_offset = start;
  for (const GgufTensorInfo& tensor : contents->tensors) {
    cursor.enter("tensor", tensor.name);
    uint64_t end = 0;
    if (!CheckedAdd(tensor.offset, tensor.n_bytes, &end) || end > n_file_bytes - start) {
      cursor.Fail("ends after the end of the file",
                  fmt::format("at most {} bytes of tensors", n_file_bytes - start),
                  fmt::format("{} bytes at offset {}", tensor.n_bytes, tensor.offset));
    }
  }
}

void CheckApart(GgufCursor& cursor, const std::vector<GgufTensorInfo>& tensors) {
  std::vector<const GgufTensorInfo*> by_offset;
  by_offset.reserve(tensors.size());
  for (const GgufTensorInfo& tensor : tensors) by_offset.push_back(&tensor);
  std::sort(by_offset.begin(), by_offset.end(),
            [](const auto* a, const auto* b) { return a->offset < b->offset; });
  for (size_t i = 1; i < by_offset.size(); ++i) {
    const GgufTensorInfo& before = *by_offset[i - 1];
    const uint64_t end = before.offset + before.n_bytes;
    if (by_offset[i]->offset >= end) continue;
    cursor.enter("tensor", by_offset[i]->name);
    cursor.Fail(fmt::format("overlaps tensor '{}'", Printable(before.name)),
                fmt::format("an offset of at least {}", end),
                fmt::format("{}", by_offset[i]->offset));
  }
}

}  // namespace

GgufContents ParseGguf(std::span<const std::byte> bytes, const std::string& path) {
  GgufContents contents;
  GgufCursor cursor(bytes, path);
  contents.container = ReadMagic(cursor);
  contents.version = ReadVersion(cursor);
  const uint64_t n_tensors =
      ReadCount(cursor, "the number of tensors", kMaxTensors, kMinTensorBytes);
  const uint64_t n_keys = ReadCount(cursor, "the number of keys", kMaxKeys, kMinKeyBytes);
  ReadMetadata(cursor, n_keys, &contents);
  contents.alignment = AlignmentOf(contents.values, path);
  ReadTensorTable(cursor, n_tensors, &contents);
  CheckInsideFile(cursor, bytes.size(), &contents);
  CheckApart(cursor, contents.tensors);
  return contents;
}

void FailKeyType(std::string_view key, const GgufValue& value, const std::string& expected,
                 const std::string& path) {
  std::string found(GgufTypeName(value.type));
  if (value.type == GgufType::kArray) {
    found = fmt::format("array of {}", GgufTypeName(value.element_type));
  }
  throw Error({.path = path,
               .what = fmt::format("key '{}' has the wrong type", Printable(std::string(key))),
               .expected = expected,
               .found = found,
               .hint = "the file is damaged or was made by another kind of tool: make it again"});
}

std::optional<uint64_t> FindU64(const GgufValues& values, std::string_view key,
                                const std::string& path) {
  const auto entry = values.find(key);
  if (entry == values.end()) return std::nullopt;
  const GgufValue& value = entry->second;
  if (const auto* number = std::get_if<uint64_t>(&value.value)) return *number;
  const auto* number = std::get_if<int64_t>(&value.value);
  if (number == nullptr) FailKeyType(key, value, "an integer", path);
  if (*number < 0) {
    throw Error({.path = path,
                 .what = fmt::format("key '{}' is out of range", Printable(std::string(key))),
                 .expected = "0 or more",
                 .found = fmt::format("{}", *number),
                 .hint = kDamagedHint});
  }
  return static_cast<uint64_t>(*number);
}

}  // namespace thermocline
