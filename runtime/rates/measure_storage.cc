#include "runtime/rates/measure_storage.h"

#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <random>

#include "runtime/core/aligned_buffer.h"

namespace thermocline {
namespace {

constexpr uint64_t kFileBytes = uint64_t{64} << 20;
constexpr uint64_t kBlocks[] = {16 << 10, 128 << 10, 1 << 20};  // a cluster of neurons, or several
constexpr uint64_t kMostBytes = uint64_t{32} << 20;             // read per block size
constexpr int kMostReads = 256;

class ScopedFd {
 public:
  explicit ScopedFd(int fd) : fd_(fd) {}
  ~ScopedFd() {
    if (fd_ >= 0) close(fd_);
  }
  ScopedFd(const ScopedFd&) = delete;
  ScopedFd& operator=(const ScopedFd&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

// Fills with bits that nothing compresses.
bool WriteAll(int fd, AlignedBuffer* buffer) {
  std::mt19937_64 random(1);
  for (uint64_t i = 0; i < buffer->size() / sizeof(uint64_t); ++i) {
    buffer->as<uint64_t>()[i] = random();
  }
  for (uint64_t at = 0; at < kFileBytes; at += buffer->size()) {
    const auto n = static_cast<ssize_t>(buffer->size());
    if (pwrite(fd, buffer->data(), buffer->size(), static_cast<off_t>(at)) != n) return false;
  }
  return fsync(fd) == 0;
}

}  // namespace

void MeasureStorage(const std::string& folder, HostRates* host) {
  std::error_code ignored;
  std::filesystem::create_directories(folder, ignored);
  // Without a name, so that nothing can be left behind.
  const ScopedFd file(open(folder.c_str(), O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600));
  AlignedBuffer buffer(kBlocks[2], "measuring storage");
  if (file.get() < 0 || !WriteAll(file.get(), &buffer)) return;
  std::mt19937_64 random(2);
  std::vector<double> sizes;
  std::vector<double> rates;
  for (const uint64_t block : kBlocks) {
    const auto n_reads = std::min<uint64_t>(kMostReads, kMostBytes / block);
    const auto start = std::chrono::steady_clock::now();
    for (uint64_t i = 0; i < n_reads; ++i) {
      const auto at = static_cast<off_t>(random() % (kFileBytes / block) * block);
      if (pread(file.get(), buffer.data(), block, at) != static_cast<ssize_t>(block)) return;
    }
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
    sizes.push_back(static_cast<double>(block));
    rates.push_back(static_cast<double>(block * n_reads) / time.count());
  }
  host->storage_block_bytes = std::move(sizes);
  host->storage_bytes_per_s = std::move(rates);
}

}  // namespace thermocline
