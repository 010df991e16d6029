// Shared memory of an emulated block, with a record per element of who wrote and read it since the
// last barrier. Reading what no thread of this block has written is reported. So are two accesses
// of different threads, one of them a write, with neither __syncthreads() between them nor, within
// a warp, __syncwarp(): a missing barrier is found in whatever order the threads happened to run.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

namespace thermocline::emulation {

enum class Access : uint8_t { kRead, kWrite, kAtomic };

// Who touched one element. Times are epochs (barriers of the block so far, never reused) and,
// within an epoch, clocks (__syncwarp()s of the lane).
struct SharedCell {
  uint64_t write_epoch = 0;
  uint64_t read_epoch = 0;
  uint32_t write_clock = 0;
  uint16_t writer = 0;      // thread that wrote last
  uint16_t read_warp = 0;   // warp of the readers in read_epoch
  bool many_warps = false;  // readers of more than one warp were there
  bool atomic = false;      // the last write was atomic
};
// When the lanes of read_warp read an element last, in read_epoch.
struct SharedReads {
  uint32_t clock[32] = {};
};

// An array in shared memory.
struct SharedRegion {
  SharedRegion(const char* array, size_t n_elements, size_t bytes)
      : name(array), n(n_elements), element_bytes(bytes), cells(n_elements), reads(n_elements) {}

  const char* name;
  size_t n;
  size_t element_bytes;
  std::byte* data = nullptr;
  size_t offset_bytes = 0;         // where a dynamic array lies
  std::vector<std::byte> storage;  // holds a static array
  uint64_t block_epoch = 0;        // epoch of the block that used it last
  std::vector<SharedCell> cells;   // one per element, as are reads
  std::vector<SharedReads> reads;
};

class SharedMemory {
 public:
  void BeginGrid();
  // Begins a block, in which nothing is written yet. shared_bytes: the launch's dynamic part.
  void BeginBlock(size_t shared_bytes);
  // All threads have met: what was done before happened before what comes.
  void NextEpoch() { ++epoch_; }

  // Returns the static array declared where `key` is. Its size never changes.
  SharedRegion& Static(const void* key, const char* name, size_t n, size_t element_bytes);
  // Returns elements [offset_bytes, offset_bytes + n * element_bytes) of the dynamic part.
  SharedRegion& Dynamic(const char* name, size_t offset_bytes, size_t n, size_t element_bytes);

  // Records an access by the running thread; reports it when it races or reads what is not there.
  void Record(SharedRegion& region, size_t index, Access access) {
    if (access == Access::kRead && index < region.n) {
      // Most reads are of what was written before the last barrier and warps read since: a write
      // before the next one is a race, whoever else reads.
      const SharedCell& cell = region.cells[index];
      const bool written = cell.write_epoch >= first_epoch_ && cell.write_epoch < epoch_;
      if (written && cell.read_epoch == epoch_ && cell.many_warps) return;
    }
    RecordAny(region, index, access);
  }

 private:
  void RecordAny(SharedRegion& region, size_t index, Access access);
  void CheckOrder(const SharedRegion& region, size_t index, Access access);

  uint64_t epoch_ = 1;
  uint64_t first_epoch_ = 1;  // the block's first epoch
  size_t static_bytes_ = 0;   // bytes that this block has declared so far
  std::vector<std::byte> dynamic_;
  std::unordered_map<const void*, std::unique_ptr<SharedRegion>> static_regions_;
  std::vector<std::unique_ptr<SharedRegion>> dynamic_regions_;  // the kernel's dynamic arrays
};

}  // namespace thermocline::emulation
