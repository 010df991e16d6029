// A fiber: a function with a stack of its own that gives way in its middle and goes on later, on
// the same host thread. Emulated GPU threads are fibers (Boost.Context). AddressSanitizer is told
// of every switch. ThreadSanitizer need not be: all fibers of a block are one host thread, which is
// what they are to it.
#pragma once

#include <boost/context/fiber.hpp>
#include <boost/context/protected_fixedsize_stack.hpp>
#include <cstddef>

namespace thermocline::emulation {

// Stacks with a guard page. AddressSanitizer's marks of what lay on a stack stay with its
// addresses, so they are cleared before others get these.
class FiberStacks : public boost::context::protected_fixedsize_stack {
 public:
  using boost::context::protected_fixedsize_stack::protected_fixedsize_stack;
  void deallocate(boost::context::stack_context& stack);
};

class Fiber {
 public:
  // Makes a fiber that is not started. Resume() calls body(argument) on the fiber's stack.
  Fiber();
  ~Fiber();  // REQUIRES: the body has returned, or was never begun
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Sets what the next Resume() begins. The body must not let an exception out.
  void SetBody(void (*body)(void*), void* argument);

  // Runs the fiber until it suspends or its body returns. It is not called from within a fiber.
  void Resume();

  // Goes back to who resumed the fiber. It is called on the fiber itself only.
  void Suspend();

 private:
  boost::context::fiber Run(boost::context::fiber&& caller);
  void EnterFiber();
  void LeaveFiber(bool for_good);

  FiberStacks allocator_;
  boost::context::stack_context stack_;
  boost::context::fiber inside_;   // the suspended fiber, seen from outside
  boost::context::fiber outside_;  // who resumed it, seen from inside
  void (*body_)(void*) = nullptr;
  void* argument_ = nullptr;
  bool stop_ = false;
  // AddressSanitizer needs these: the stack of who resumed, and the fake stacks of both sides.
  const void* outer_stack_ = nullptr;
  size_t outer_stack_bytes_ = 0;
  void* inner_fake_stack_ = nullptr;
};

}  // namespace thermocline::emulation
