#include "runtime/core/aligned_buffer.h"

#include <sys/mman.h>

#include "runtime/core/checked_math.h"
#include "runtime/core/error.h"
#include "runtime/core/size_text.h"

namespace thermocline {
namespace {
constexpr uint64_t kHugePage = 2U << 20;
constexpr uint64_t kPage = 4096;
}  // namespace

AlignedBuffer::AlignedBuffer(uint64_t n_bytes, const std::string& purpose) : n_bytes_(n_bytes) {
  if (n_bytes == 0) return;
  uint64_t wanted = 0;
  const uint64_t unit = n_bytes >= kHugePage ? kHugePage : kPage;
  void* memory = MAP_FAILED;
  if (CheckedAlignUp(n_bytes, unit, &wanted)) {
    memory = ::mmap(nullptr, wanted, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  }
  if (memory == MAP_FAILED) {
    throw Error({.what = "out of memory for " + purpose,
                 .expected = FormatBytes(n_bytes),
                 .hint = "use a smaller context, a smaller model or more neurons on another tier",
                 .settings = {{Setting::kContextSize}}});
  }
  if (unit == kHugePage) (void)::madvise(memory, wanted, MADV_HUGEPAGE);
  data_ = memory;
  mapped_bytes_ = wanted;
}

AlignedBuffer::~AlignedBuffer() {
  if (data_ != nullptr) ::munmap(data_, mapped_bytes_);
}

}  // namespace thermocline
