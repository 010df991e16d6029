#include "runtime/core/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "runtime/core/bus_error.h"
#include "runtime/core/error.h"

namespace thermocline {

MappedFile::MappedFile(const std::string& path) : path_(path) {
  // O_NONBLOCK keeps open() from waiting for the writer of a FIFO; regular files do not care.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    throw Error({.path = path,
                 .what = std::string("cannot open: ") + std::strerror(errno),
                 .hint = "check the path and its permissions"});
  }
  struct stat status {};
  const bool regular = ::fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
  if (!regular || status.st_size == 0) {
    ::close(fd);
    throw Error({.path = path,
                 .what = regular ? "the file is empty" : "not a regular file",
                 .hint = regular ? "download or make it again" : "give the path of a file"});
  }
  size_ = static_cast<uint64_t>(status.st_size);
  void* mapping = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd, 0);
  const int map_errno = errno;
  ::close(fd);
  if (mapping == MAP_FAILED) {
    throw Error({.path = path, .what = std::string("cannot map: ") + std::strerror(map_errno)});
  }
  data_ = static_cast<const std::byte*>(mapping);
  NoteMapping(data_, size_, path_);
  // Where the file system keeps large folios, what is read from now on comes in pages of 2 MiB, and
  // one page fault maps all of such a page. It is only a wish.
  (void)::madvise(mapping, size_, MADV_HUGEPAGE);
}

MappedFile::~MappedFile() {
  if (data_ == nullptr) return;
  ForgetMapping(data_);
  ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::Release(const std::byte* data, uint64_t n_bytes) const {
  CHECK(data >= data_ && n_bytes <= size_ && data + n_bytes <= data_ + size_);
  const auto page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  const auto offset = static_cast<uint64_t>(data - data_);
  const uint64_t begin = (offset + page - 1) / page * page;
  const uint64_t end = (offset + n_bytes) / page * page;
  if (begin >= end) return;
  (void)::madvise(const_cast<std::byte*>(data_) + begin, end - begin, MADV_DONTNEED);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

}  // namespace thermocline
