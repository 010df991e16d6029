// Reads safetensors: a length, a JSON header of that many bytes that says of each tensor its type,
// its shape and where its bytes lie, then the bytes. One file, or a model in several ("shards")
// that an index lists. Every number of a header is checked before it is used: a tensor lies inside
// its file and apart from the others, and has as many bytes as its shape says. Data stays in the
// mapping.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/core/dtype.h"
#include "runtime/core/mapped_file.h"

namespace thermocline {

// Types of elements. Other types that the format has (F8_E8M0, C64, ...) are known by their sizes.
enum class SafetensorsType : uint8_t {
  kF64,
  kF32,
  kF16,
  kBF16,
  kF8E4M3,
  kF8E5M2,
  kI64,
  kI32,
  kI16,
  kI8,
  kU64,
  kU32,
  kU16,
  kU8,
  kBool,
};

struct SafetensorsTypeInfo {
  SafetensorsType type;
  std::string_view name;  // as in the file: "F8_E4M3"
  uint32_t bytes;
  std::optional<DType> dtype;  // the same type in a GGUF, where there is one
};
const SafetensorsTypeInfo& InfoOf(SafetensorsType type);

struct SafetensorsTensor {
  std::string name;
  SafetensorsType type = SafetensorsType::kF32;
  std::vector<uint64_t> shape;  // slowest dimension first; none: one element
  uint64_t n_elements = 0;
  uint64_t n_bytes = 0;
  uint64_t begin = 0;  // from the start of the file
  size_t file = 0;     // which file of a set

  const SafetensorsTypeInfo& info() const { return InfoOf(type); }
};

// Parses one file's header. Returns its tensors in the order of their names.
std::vector<SafetensorsTensor> ParseSafetensors(std::span<const std::byte> bytes,
                                                const std::string& path);

// The tensors of a model.
class SafetensorsModel {
 public:
  // Opens the model in a directory: model.safetensors.index.json and the shards that it names, or
  // model.safetensors. Throws Error for a shard that is missing or cut off, and for an index and
  // shards that do not hold the same tensors.
  explicit SafetensorsModel(const std::string& directory);

  const std::vector<SafetensorsTensor>& tensors() const { return tensors_; }
  const SafetensorsTensor* Find(std::string_view name) const;
  const std::string& PathOf(const SafetensorsTensor& tensor) const {
    return files_[tensor.file].path();
  }
  const std::byte* DataOf(const SafetensorsTensor& tensor) const {
    return files_[tensor.file].data() + tensor.begin;
  }
  // Lets go of the memory of a tensor that was read and will not be read again.
  void Release(const SafetensorsTensor& tensor) const {
    files_[tensor.file].Release(DataOf(tensor), tensor.n_bytes);
  }
  const std::vector<MappedFile>& files() const { return files_; }

 private:
  void OpenShards(const std::string& directory, const std::string& index_path);
  void AddFile(const std::string& path);

  std::vector<MappedFile> files_;
  std::vector<SafetensorsTensor> tensors_;
  std::map<std::string, size_t, std::less<>> by_name_;
};

// Reads an index: the shard of each tensor. A shard's name is one file's in the same directory.
std::map<std::string, std::string> ParseSafetensorsIndex(std::string_view text,
                                                         const std::string& path);

// "[4096, 11008]"
std::string ShapeText(const std::vector<uint64_t>& shape);

}  // namespace thermocline
