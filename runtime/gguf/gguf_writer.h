// Writes GGUF v3, streaming: declare every tensor, then hand over their bytes in the same order.
// Memory use is one tensor's piece at a time. The file appears under its name only at finish()
// (AtomicFile).
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/core/atomic_file.h"
#include "runtime/gguf/gguf.h"

namespace thermocline {

class GgufWriter {
 public:
  // Throws Error at once when `path` cannot be written, so that long work does not end in that
  // surprise.
  explicit GgufWriter(const std::string& path, uint64_t alignment = 32);

  // Replaces an earlier value of the key. For general.alignment only the place counts: its value is
  // the writer's alignment.
  void Set(const std::string& key, GgufValue value);
  // dims: dims[0] is the row length. REQUIRES: dims valid for dtype; name unique.
  void DeclareTensor(const std::string& name, DType dtype, std::vector<uint64_t> dims);

  // After the last DeclareTensor, the bytes of the tensors follow in order of declaration, in
  // pieces of any size. BeginTensor CHECKs the name and that the one before is complete.
  void BeginTensor(const std::string& name);
  void Write(const void* data, uint64_t n_bytes);
  void WriteTensor(const std::string& name, const void* data, uint64_t n_bytes);

  // CHECKs that every tensor is complete, then syncs and renames.
  void Finish();
  uint64_t bytes_written() const { return file_.bytes_written(); }

 private:
  void WriteHeader();
  void EndTensor();
  void pad();

  AtomicFile file_;
  uint64_t alignment_;
  std::vector<std::pair<std::string, GgufValue>> values_;
  std::vector<GgufTensorInfo> tensors_;
  std::set<std::string> names_;
  size_t next_tensor_ = 0;
  uint64_t left_in_tensor_ = 0;
  bool header_written_ = false;
};

}  // namespace thermocline
