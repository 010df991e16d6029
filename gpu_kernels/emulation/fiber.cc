#include "gpu_kernels/emulation/fiber.h"

#include <utility>

#include "gpu_kernels/emulation/sanitizers.h"
#include "runtime/core/error.h"

namespace thermocline::emulation {
namespace {

// Kernels keep little on the stack, but sanitizers pad every variable.
constexpr size_t kStackBytes = kAddressSanitizer ? 256 << 10 : 64 << 10;

}  // namespace

void FiberStacks::deallocate(boost::context::stack_context& stack) {
  Unpoison(static_cast<char*>(stack.sp) - stack.size, stack.size);
  boost::context::protected_fixedsize_stack::deallocate(stack);
}

Fiber::Fiber() : allocator_(kStackBytes), stack_(allocator_.allocate()) {
  inside_ = boost::context::fiber(
      std::allocator_arg, boost::context::preallocated(stack_.sp, stack_.size, stack_), allocator_,
      [this](boost::context::fiber&& caller) { return Run(std::move(caller)); });
}

Fiber::~Fiber() {
  stop_ = true;
  Resume();
}

void Fiber::SetBody(void (*body)(void*), void* argument) {
  body_ = body;
  argument_ = argument;
}

void Fiber::Resume() {
  void* fake_stack = nullptr;
  StartSwitch(&fake_stack, static_cast<char*>(stack_.sp) - stack_.size, stack_.size);
  inside_ = std::move(inside_).resume();
  FinishSwitch(fake_stack, nullptr, nullptr);
}

void Fiber::Suspend() {
  LeaveFiber(/*for_good=*/false);
  outside_ = std::move(outside_).resume();
  EnterFiber();
}

boost::context::fiber Fiber::Run(boost::context::fiber&& caller) {
  outside_ = std::move(caller);
  EnterFiber();
  while (!stop_) {
    body_(argument_);
    Suspend();
  }
  LeaveFiber(/*for_good=*/true);
  return std::move(outside_);
}

void Fiber::EnterFiber() { FinishSwitch(inner_fake_stack_, &outer_stack_, &outer_stack_bytes_); }

void Fiber::LeaveFiber(bool for_good) {
  StartSwitch(for_good ? nullptr : &inner_fake_stack_, outer_stack_, outer_stack_bytes_);
}

}  // namespace thermocline::emulation
