// Writes a file so that its final name never holds half of it: the bytes go to a temporary name
// beside it, are synced, and the name changes in one step at Commit(). Without Commit() (an
// exception, Ctrl-C) the temporary file is removed and an older file under the final name stays as
// it was.
//
// A symbolic link stays: the file it leads to is replaced, and keeps its mode. What is no regular
// file (a FIFO, a device, an open file by its name in /dev/fd, such as /dev/stdout) cannot be
// replaced. Its bytes are written through, in order, and it is opened only when there are any.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace thermocline {

class AtomicFile {
 public:
  // Throws Error when a file cannot be created beside `path`. Removes temporary files that killed
  // writers of the same name left there; a live writer holds a lock on its own.
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void Write(const void* data, size_t n_bytes);  // throws Error (disk full, ...)
  uint64_t bytes_written() const { return bytes_written_; }
  void Commit();

 private:
  void CreateTemporary();
  void OpenThrough();
  void Flush();
  [[noreturn]] void Fail(const char* what, int error_number) const;

  std::string path_;            // as the user named it
  std::string target_;          // path_ with its links followed
  std::string temporary_path_;  // empty where bytes are written through
  int fd_ = -1;
  bool committed_ = false;
  uint64_t bytes_written_ = 0;
  std::string buffer_;
};

// Whether what is written to `path` can be read back under that name. It cannot be where `path` is
// no regular file, since a pipe cannot be read twice and its reader cannot seek.
bool CanBeReadBack(const std::string& path);

}  // namespace thermocline
