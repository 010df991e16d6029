// Writes a file so that its final name never holds half of it: the bytes go to a temporary name
// beside it, are synced, and the name changes in one step at Commit(). Without Commit() (an
// exception, Ctrl-C) the temporary file is removed and an older file under the final name stays as
// it was.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace thermocline {

class AtomicFile {
 public:
  // Throws Error when a file cannot be created beside `path`.
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void Write(const void* data, size_t n_bytes);  // throws Error (disk full, ...)
  uint64_t bytes_written() const { return bytes_written_; }
  void Commit();

 private:
  void Flush();
  [[noreturn]] void Fail(const char* what, int error_number) const;

  std::string path_;
  std::string temporary_path_;
  int fd_ = -1;
  uint64_t bytes_written_ = 0;
  std::string buffer_;
};

}  // namespace thermocline
