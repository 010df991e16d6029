#include "runtime/core/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <random>
#include <tuple>
#include <utility>

#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"
#include "runtime/core/output_target.h"
#include "runtime/core/stale_files.h"

namespace thermocline {
namespace {

// Writes go a huge page at a time: where the file system keeps large folios (ext4 from Linux 6.16
// on, XFS before) the file then lies in the page cache as a mapping of it can use it (MappedFile).
constexpr size_t kBufferBytes = 2 << 20;

// Gives the new file the mode and, where that is allowed, the owner of the one it will replace.
void TakeOver(const std::string& replaced, int fd) {
  struct stat status {};
  if (::stat(replaced.c_str(), &status) != 0) return;
  if (::fchown(fd, status.st_uid, status.st_gid) != 0) {
    std::ignore = ::fchown(fd, static_cast<uid_t>(-1), status.st_gid);
  }
  std::ignore = ::fchmod(fd, status.st_mode & 0777U);
}

}  // namespace

AtomicFile::AtomicFile(const std::string& path) : path_(path) {
  if (path.empty()) Fail("cannot write here", ENOENT);
  const OutputTarget target = FindOutputTarget(path);
  target_ = target.path;
  if (target.error != 0) Fail("cannot write here", target.error);
  buffer_.reserve(kBufferBytes);
  if (target.kind == OutputTarget::Kind::kRegular) CreateTemporary();
  // A descriptor is taken at once: its number may be another file's by the time there are bytes.
  if (target.kind == OutputTarget::Kind::kDescriptor) {
    fd_ = ::fcntl(target.descriptor, F_DUPFD_CLOEXEC, 3);
    if (fd_ < 0) Fail("cannot write here", errno);
  }
}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  // The file is unlinked while the lock is held, so that nobody takes it for a stale one meanwhile.
  if (!temporary_path_.empty()) ::unlink(temporary_path_.c_str());
  ::close(fd_);
}

void AtomicFile::CreateTemporary() {
  RemoveStaleTemporaries(target_);
  std::random_device random;
  while (fd_ < 0) {
    temporary_path_ = TemporaryName(target_, random());
    // mkstemp would give the file to its owner alone; open() obeys the umask, as other programs do.
    fd_ = ::open(temporary_path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd_ < 0 && errno == EEXIST) continue;
    if (fd_ < 0) Fail("cannot write here", errno);
    if (LockTemporary(fd_)) break;
    ::close(fd_);  // another writer took it for a stale one before it was locked
    fd_ = -1;
  }
  TakeOver(target_, fd_);
}

void AtomicFile::OpenThrough() {
  while (fd_ < 0) {
    fd_ = ::open(target_.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY);  // a FIFO waits for its reader
    if (fd_ >= 0) return;
    if (errno != EINTR) Fail("cannot write here", errno);
    ThrowIfInterrupted();
  }
}

void AtomicFile::Write(const void* data, size_t n_bytes) {
  CHECK(!committed_);
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
  if (fd_ < 0) OpenThrough();
  size_t done = 0;
  while (done < buffer_.size()) {
    const ssize_t n = ::write(fd_, buffer_.data() + done, buffer_.size() - done);
    if (n < 0 && errno == EINTR) {
      ThrowIfInterrupted();
      continue;
    }
    if (n < 0) Fail("cannot write", errno);
    done += static_cast<size_t>(n);
  }
  buffer_.clear();
}

void AtomicFile::Commit() {
  CHECK(!committed_);
  Flush();
  committed_ = true;
  if (temporary_path_.empty()) {
    const int fd = std::exchange(fd_, -1);
    if (::close(fd) != 0) Fail("cannot write", errno);
    return;
  }
  if (::fsync(fd_) != 0) Fail("cannot sync", errno);
  if (::rename(temporary_path_.c_str(), target_.c_str()) != 0) Fail("cannot rename", errno);
  ::close(fd_);
  fd_ = -1;
  const int dir = ::open(DirectoryOf(target_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
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

bool CanBeReadBack(const std::string& path) {
  return FindOutputTarget(path).kind == OutputTarget::Kind::kRegular;
}

}  // namespace thermocline
