#include "gpu_kernels/emulation/shared_memory.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "gpu_kernels/emulation/block.h"

namespace thermocline::emulation {
namespace {

// Whether what `other` did at clock `clock` of the current epoch happened before what `thread` does
// now.
bool HappenedBefore(uint32_t other, uint32_t clock, const Thread& thread) {
  if (other == thread.number) return true;
  return other / kWarpSize == thread.warp() && thread.seen[other % kWarpSize] >= clock;
}

std::string Element(const SharedRegion& region, size_t index) {
  return fmt::format("{}[{}] in shared memory", region.name, index);
}

}  // namespace

void SharedMemory::BeginGrid() { dynamic_regions_.clear(); }

void SharedMemory::BeginBlock(size_t shared_bytes) {
  first_epoch_ = ++epoch_;
  static_bytes_ = 0;
  dynamic_.assign(shared_bytes, std::byte{0xff});
  // The vector may have moved.
  for (const auto& region : dynamic_regions_) region->data = dynamic_.data() + region->offset_bytes;
}

SharedRegion& SharedMemory::Static(const void* key, const char* name, size_t n,
                                   size_t element_bytes) {
  std::unique_ptr<SharedRegion>& region = static_regions_[key];
  if (region == nullptr) {
    region = std::make_unique<SharedRegion>(name, n, element_bytes);
    region->storage.resize(n * element_bytes);
    region->data = region->storage.data();
  }
  if (region->block_epoch != first_epoch_) {
    region->block_epoch = first_epoch_;
    static_bytes_ += n * element_bytes;
    if (static_bytes_ > kMaxStaticBytes || static_bytes_ + dynamic_.size() > kMaxSharedBytes) {
      CurrentBlock().Fail(
          fmt::format("has {} bytes of static and {} of dynamic shared memory; at most {} static "
                      "and {} together",
                      static_bytes_, dynamic_.size(), kMaxStaticBytes, kMaxSharedBytes));
    }
  }
  return *region;
}

SharedRegion& SharedMemory::Dynamic(const char* name, size_t offset_bytes, size_t n,
                                    size_t element_bytes) {
  const size_t end = offset_bytes + n * element_bytes;
  for (const auto& region : dynamic_regions_) {
    if (region->offset_bytes == offset_bytes && region->n == n &&
        region->element_bytes == element_bytes) {
      return *region;
    }
    const size_t region_end = region->offset_bytes + region->n * region->element_bytes;
    if (offset_bytes < region_end && region->offset_bytes < end) {
      CurrentBlock().Fail(
          fmt::format("places {} over {} in dynamic shared memory", name, region->name));
    }
  }
  if (end > dynamic_.size() || offset_bytes % element_bytes != 0) {
    CurrentBlock().Fail(fmt::format(
        "places {} at bytes {} to {} of dynamic shared memory; the launch has {} bytes, "
        "and an element of {} lies at a multiple of its size",
        name, offset_bytes, end, dynamic_.size(), element_bytes));
  }
  auto region = std::make_unique<SharedRegion>(name, n, element_bytes);
  region->offset_bytes = offset_bytes;
  region->data = dynamic_.data() + offset_bytes;
  dynamic_regions_.push_back(std::move(region));
  return *dynamic_regions_.back();
}

void SharedMemory::RecordAny(SharedRegion& region, size_t index, Access access) {
  BlockRunner& block = CurrentBlock();
  if (index >= region.n) {
    block.Fail(fmt::format("accesses {}; it has {} elements", Element(region, index), region.n));
  }
  SharedCell& cell = region.cells[index];
  const Thread& thread = block.running();
  CheckOrder(region, index, access);
  if (access == Access::kRead) {
    SharedReads& reads = region.reads[index];
    if (cell.read_epoch != epoch_) {
      cell.read_epoch = epoch_;
      cell.read_warp = static_cast<uint16_t>(thread.warp());
      cell.many_warps = false;
      reads = {};
    }
    cell.many_warps |= cell.read_warp != thread.warp();
    reads.clock[thread.lane()] = thread.own_clock;
    return;
  }
  cell.write_epoch = epoch_;
  cell.write_clock = thread.own_clock;
  cell.writer = static_cast<uint16_t>(thread.number);
  cell.atomic = access == Access::kAtomic;
}

void SharedMemory::CheckOrder(const SharedRegion& region, size_t index, Access access) {
  BlockRunner& block = CurrentBlock();
  const SharedCell& cell = region.cells[index];
  const Thread& thread = block.running();
  const bool never_written = cell.write_epoch < first_epoch_;
  if (never_written && access != Access::kWrite) {
    block.Fail(fmt::format("reads {}, which no thread has written", Element(region, index)));
  }
  const bool both_atomic = access == Access::kAtomic && cell.atomic;
  if (cell.write_epoch == epoch_ && !both_atomic &&
      !HappenedBefore(cell.writer, cell.write_clock, thread)) {
    block.Fail(fmt::format("{} {}, which thread {} has written with no barrier between",
                           access == Access::kRead ? "reads" : "writes", Element(region, index),
                           cell.writer));
  }
  if (access == Access::kRead || cell.read_epoch != epoch_) return;
  bool race = cell.many_warps;
  const SharedReads& reads = region.reads[index];
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    const unsigned reader = cell.read_warp * kWarpSize + lane;
    race |= reads.clock[lane] != 0 && !HappenedBefore(reader, reads.clock[lane], thread);
  }
  if (race) {
    block.Fail(fmt::format("writes {}, which another thread has read with no barrier between",
                           Element(region, index)));
  }
}

}  // namespace thermocline::emulation
