#include "runtime/core/atomic_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <random>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

// A huge page at a time: where the file system keeps large folios (ext4 from Linux 6.16 on, XFS
// before) the file then lies in the page cache as a mapping of it can use it (MappedFile).
constexpr size_t kBufferBytes = 2 << 20;

std::string DirectoryOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

AtomicFile::AtomicFile(const std::string& path) : path_(path) {
  if (path.empty()) Fail("cannot write here", ENOENT);
  struct stat status {};
  if (::stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) {
    throw Error({.path = path,
                 .what = "cannot write here: not a regular file",
                 .hint = "choose another output file"});
  }
  buffer_.reserve(kBufferBytes);
  // mkstemp would give the file to its owner alone; open() obeys the umask, as other programs do.
  std::random_device random;
  do {
    temporary_path_ = fmt::format("{}.{:08x}.tmp", path, random());
    fd_ = ::open(temporary_path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  } while (fd_ < 0 && errno == EEXIST);
  if (fd_ < 0) Fail("cannot write here", errno);
}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(temporary_path_.c_str());
}

void AtomicFile::Write(const void* data, size_t n_bytes) {
  CHECK(fd_ >= 0);
  bytes_written_ += n_bytes;
  const char* bytes = static_cast<const char*>(data);
  while (n_bytes > 0) {
    const size_t part = std::min(n_bytes, kBufferBytes - buffer_.size());
    buffer_.append(bytes, part);
    bytes += part;
    n_bytes -= part;
    if (buffer_.size() == kBufferBytes) Flush();
  }
}

void AtomicFile::Flush() {
  size_t done = 0;
  while (done < buffer_.size()) {
    const ssize_t n = ::write(fd_, buffer_.data() + done, buffer_.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) Fail("cannot write", errno);
    done += static_cast<size_t>(n);
  }
  buffer_.clear();
}

void AtomicFile::Commit() {
  CHECK(fd_ >= 0);
  Flush();
  if (::fsync(fd_) != 0) Fail("cannot sync", errno);
  if (::rename(temporary_path_.c_str(), path_.c_str()) != 0) Fail("cannot rename", errno);
  ::close(fd_);
  fd_ = -1;
  const int dir = ::open(DirectoryOf(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (dir >= 0) {
    (void)::fsync(dir);
    ::close(dir);
  }
}

void AtomicFile::Fail(const char* what, int error_number) const {
  throw Error({.path = path_,
               .what = std::string(what) + ": " + std::strerror(error_number),
               .hint = "check that the directory exists, is writable and has space"});
}

}  // namespace thermocline
