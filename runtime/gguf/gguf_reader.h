// Reads GGUF v2 and v3, also under PowerInfer's magic, one file or a split set
// (NAME-00001-of-00003.gguf names the set by any member). Every number of the file is checked
// before it is used; what does not hold throws Error with the path, what was expected and what was
// found. Tensor data stays in the mapping.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/core/mapped_file.h"
#include "runtime/core/tensor_view.h"
#include "runtime/gguf/gguf.h"

namespace thermocline {

struct GgufContents;
struct GgufSplitSet;

class GgufReader {
 public:
  explicit GgufReader(const std::string& path);
  // Parses bytes in memory (fuzzing, tests). `name` stands for the path in messages. The bytes must
  // outlive the reader.
  GgufReader(std::span<const std::byte> bytes, std::string name);

  const std::string& path() const { return path_; }
  GgufContainer container() const { return container_; }
  uint32_t version() const { return version_; }
  uint64_t alignment() const { return alignment_; }
  uint64_t file_bytes() const;  // bytes of all files of the set
  int n_files() const { return static_cast<int>(files_.size()); }

  // ---- metadata; keys in file order in `keys()` ----
  const std::vector<std::string>& keys() const { return keys_; }
  const GgufValue* Find(std::string_view key) const;
  // Optional keys. They give nullopt when absent, and throw Error when present with another type or
  // out of range.
  std::optional<std::string> GetString(std::string_view key) const;
  std::optional<uint64_t> GetU64(std::string_view key) const;  // any integer type, not negative
  std::optional<double> GetF64(std::string_view key) const;    // any float or integer type, finite
  std::optional<bool> GetBool(std::string_view key) const;
  // Optional arrays. They give nullptr when absent, and throw Error when present with other
  // elements.
  const std::vector<std::string>* GetStrings(std::string_view key) const;
  const std::vector<int64_t>* GetI64s(std::string_view key) const;  // any signed elements
  // Required keys. They throw Error when absent.
  std::string RequireString(std::string_view key) const;
  uint64_t RequireU64(std::string_view key, uint64_t min, uint64_t max) const;

  // ---- tensors, in file order ----
  const std::vector<GgufTensorInfo>& tensors() const { return tensors_; }
  const GgufTensorInfo* FindTensor(std::string_view name) const;
  // Returns the tensor's bytes inside the mapping: n_bytes of them.
  const std::byte* TensorData(const GgufTensorInfo& tensor) const;
  // Returns a matrix with the shape wanted (row-major rows x cols; a vector is one row), in any
  // dtype. Throws Error when the tensor is absent or has another shape.
  TensorView RequireMatrix(std::string_view name, int64_t rows, int64_t cols) const;

  // A part of a tensor that holds several: so many rows, or elements of a vector.
  struct TensorPart {
    std::string name;
    uint64_t rows;
  };
  // Puts the parts in the place of the tensor, in the order of its rows; the fingerprint stays.
  // Throws Error unless they are all its rows, and a vector's elements are no blocks.
  // REQUIRES: the tensor is there.
  void SplitTensor(const std::string& name, std::span<const TensorPart> parts);

  // Lets go of the memory of a tensor that was copied and will not be read again.
  void ReleasePages(const TensorView& tensor) const;

  // A fast fingerprint of metadata, tensor table and samples of every tensor's data (64-bit, hex).
  // It binds profiles and placements to the model they were made for. It is stable across re-reads,
  // and independent of the path and of how the set is split.
  std::string fingerprint() const;

 private:
  struct File {
    std::optional<MappedFile> mapping = {};  // absent for bytes in memory
    std::span<const std::byte> bytes = {};
    uint64_t data_offset = 0;
    std::string name = {};
  };
  void AddFile(File file, GgufContents contents);
  void OpenSplitSet(const GgufSplitSet& set);
  std::string ComputeFingerprint() const;
  template <typename T>
  const std::vector<T>* get_array(std::string_view key, const char* expected) const;

  std::string path_;
  GgufContainer container_ = GgufContainer::kGguf;
  uint32_t version_ = 0;
  uint64_t alignment_ = 32;
  std::vector<File> files_;
  std::vector<std::string> keys_;
  std::map<std::string, GgufValue, std::less<>> values_;
  std::vector<GgufTensorInfo> tensors_;
  std::map<std::string, size_t, std::less<>> tensor_index_;
  std::string file_fingerprint_;  // from before tensors were split; else empty
};

}  // namespace thermocline
