// A file mapped read-only into memory. The mapping stays valid for the object's life; the file must
// not shrink meanwhile: a reader past the end gets SIGBUS, as with any mapping (bus_error.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace thermocline {

class MappedFile {
 public:
  // Throws Error when the file cannot be opened, is not a regular file, or is empty.
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&&) = delete;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::byte* data() const { return data_; }
  uint64_t size() const { return size_; }
  const std::string& path() const { return path_; }
  // Lets go of the memory of the whole pages within [data, data + n_bytes), which was copied and
  // will not be read again. Reading it all the same reads the file again.
  void Release(const std::byte* data, uint64_t n_bytes) const;

 private:
  std::string path_;
  const std::byte* data_ = nullptr;
  uint64_t size_ = 0;
};

}  // namespace thermocline
