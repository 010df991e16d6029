#include "runtime/core/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

constexpr size_t kBufferBytes = 1 << 20;

std::string directory_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

AtomicFile::AtomicFile(const std::string& path) : path_(path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) {
    throw Error({.path = path,
                 .what = "cannot write here: not a regular file",
                 .hint = "choose another output file"});
  }
  temporary_path_ = path + ".XXXXXX.tmp";
  fd_ = ::mkstemps(temporary_path_.data(), 4);
  if (fd_ < 0) fail("cannot write here", errno);
  const mode_t mask = ::umask(0);
  ::umask(mask);
  (void)::fchmod(fd_, 0666 & ~mask);
  buffer_.reserve(kBufferBytes);
}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(temporary_path_.c_str());
}

void AtomicFile::write(const void* data, size_t n_bytes) {
  bytes_written_ += n_bytes;
  const char* bytes = static_cast<const char*>(data);
  while (n_bytes > 0) {
    const size_t part = std::min(n_bytes, kBufferBytes - buffer_.size());
    buffer_.append(bytes, part);
    bytes += part;
    n_bytes -= part;
    if (buffer_.size() == kBufferBytes) flush();
  }
}

void AtomicFile::flush() {
  size_t done = 0;
  while (done < buffer_.size()) {
    const ssize_t n = ::write(fd_, buffer_.data() + done, buffer_.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail("cannot write", errno);
    done += static_cast<size_t>(n);
  }
  buffer_.clear();
}

void AtomicFile::commit() {
  CHECK(fd_ >= 0);
  flush();
  if (::fsync(fd_) != 0) fail("cannot sync", errno);
  if (::rename(temporary_path_.c_str(), path_.c_str()) != 0) fail("cannot rename", errno);
  ::close(fd_);
  fd_ = -1;
  const int dir = ::open(directory_of(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (dir >= 0) {
    (void)::fsync(dir);
    ::close(dir);
  }
}

void AtomicFile::fail(const char* what, int error_number) const {
  throw Error({.path = path_,
               .what = std::string(what) + ": " + std::strerror(error_number),
               .hint = "check that the directory exists, is writable and has space"});
}

}  // namespace thermocline
