// What the emulator tells AddressSanitizer, where the build has it: switches of stacks, and memory
// around allocations that nobody may touch.
#pragma once

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#define THERMOCLINE_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define THERMOCLINE_ADDRESS_SANITIZER 1
#endif
#endif

#ifdef THERMOCLINE_ADDRESS_SANITIZER
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace thermocline::emulation {

#ifdef THERMOCLINE_ADDRESS_SANITIZER
inline constexpr bool kAddressSanitizer = true;
// Called before and after a switch to the stack of n_bytes that ends at low address `stack`.
inline void StartSwitch(void** fake_stack, const void* stack, size_t n_bytes) {
  __sanitizer_start_switch_fiber(fake_stack, stack, n_bytes);
}
inline void FinishSwitch(void* fake_stack, const void** old_stack, size_t* old_bytes) {
  __sanitizer_finish_switch_fiber(fake_stack, old_stack, old_bytes);
}
inline void Poison(const void* from, size_t n_bytes) { ASAN_POISON_MEMORY_REGION(from, n_bytes); }
inline void Unpoison(const void* from, size_t n_bytes) {
  ASAN_UNPOISON_MEMORY_REGION(from, n_bytes);
}
#else
inline constexpr bool kAddressSanitizer = false;
inline void StartSwitch(void** /*fake_stack*/, const void* /*stack*/, size_t /*n_bytes*/) {}
inline void FinishSwitch(void* /*fake_stack*/, const void** /*old_stack*/, size_t* /*old_bytes*/) {}
inline void Poison(const void* /*from*/, size_t /*n_bytes*/) {}
inline void Unpoison(const void* /*from*/, size_t /*n_bytes*/) {}
#endif

}  // namespace thermocline::emulation
