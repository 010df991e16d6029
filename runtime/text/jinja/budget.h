// What a template may cost, and how its errors travel. A template comes from a file of somebody
// else, so nothing in it may hang, overflow the stack or fill the memory.
#pragma once

#include <cstdint>
#include <exception>
#include <string>

#include "runtime/core/error.h"

namespace thermocline::jinja {

struct Limits {
  uint64_t max_template_bytes = uint64_t{1} << 20;
  // How deep expressions and statements of a template nest.
  int max_parse_depth = 200;
  // How deep evaluation nests, macros that call macros included.
  int max_depth = 1000;
  // A step is an expression or a statement that is evaluated, an item that is visited, 64 bytes of
  // text that are made or compared, or 8 that are looked at one by one. A loop's turn takes 4.
  uint64_t max_steps = 20'000'000;
  uint64_t max_output_bytes = uint64_t{64} << 20;
  // The longest string that a template may make.
  uint64_t max_value_bytes = uint64_t{32} << 20;
  // All values that are alive, lists and dicts from the first to the last.
  uint64_t max_memory_bytes = uint64_t{512} << 20;
  // jinja2's sandbox has the same limit.
  int64_t max_range_items = 100'000;
};

// What is thrown while a template is read or evaluated. Program turns it into an Error, with the
// template's name and line.
class Failure : public std::exception {
 public:
  Failure(ErrorInfo info, int line) : info_(std::move(info)), line_(line) {}
  const char* what() const noexcept override { return info_.what.c_str(); }
  const ErrorInfo& info() const { return info_; }
  int line() const { return line_; }  // 0: the line that is being evaluated

 private:
  ErrorInfo info_;
  int line_;
};

// Throws a Failure at the line that is being evaluated.
[[noreturn]] void Fail(const std::string& what, const std::string& expected = {},
                       const std::string& found = {}, const std::string& hint = {});

// Counts down what is left of the limits. It outlives every value that it counted.
class Budget {
 public:
  explicit Budget(const Limits& limits) : limits_(limits) {}
  Budget(const Budget&) = delete;
  Budget& operator=(const Budget&) = delete;

  const Limits& limits() const { return limits_; }
  // Each throws Failure when a limit is passed.
  void Spend(uint64_t n_steps);
  void SpendBytes(uint64_t n_bytes) { Spend(1 + n_bytes / 64); }
  // For text that is looked at character by character.
  void SpendCharacters(uint64_t n_bytes) { Spend(1 + n_bytes / 8); }
  void Take(uint64_t n_bytes);
  void CheckSize(uint64_t value_bytes) const;
  void Enter();

  void Return(uint64_t n_bytes) { taken_bytes_ -= n_bytes; }
  void Leave() { --depth_; }

 private:
  Limits limits_;
  uint64_t steps_ = 0;
  uint64_t taken_bytes_ = 0;
  int depth_ = 0;
};

// Holds one level of nesting.
class DepthGuard {
 public:
  explicit DepthGuard(Budget& budget) : budget_(budget) { budget_.Enter(); }
  ~DepthGuard() { budget_.Leave(); }
  DepthGuard(const DepthGuard&) = delete;
  DepthGuard& operator=(const DepthGuard&) = delete;

 private:
  Budget& budget_;
};

}  // namespace thermocline::jinja
