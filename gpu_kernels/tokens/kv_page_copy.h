// A page of the KV cache into another: what a sequence writes to is its own first. And a position
// to another place: what stays of a tree of tokens lies behind each other.
#pragma once

#include <cstdint>

#include "gpu_kernels/base/stream.h"

namespace thermocline {

// memory: (n_planes, n_slots) rows end to end, n_bytes in all, 16-byte aligned. In every plane the
// rows of page `from` go to page `to`. Asynchronous on `stream`; throws Error on launch. REQUIRES:
// a page's rows in a plane are a multiple of 16 bytes, and so is a plane.
void GpuCopyKvPage(Stream& stream, void* memory, uint64_t n_bytes, int64_t n_planes,
                   int64_t n_slots, int64_t from, int64_t to);
// The same of the rows in slot `from`, to slot `to`. REQUIRES: rows are a multiple of 2 bytes.
void GpuCopyKvSlot(Stream& stream, void* memory, uint64_t n_bytes, int64_t n_planes,
                   int64_t n_slots, int64_t from, int64_t to);

}  // namespace thermocline
