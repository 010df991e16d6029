// What one rendering owns: its budget, its cells, its clock.
#pragma once

#include <ctime>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runtime/text/jinja/budget.h"
#include "runtime/text/jinja/value.h"

namespace thermocline::jinja {

class Runtime {
 public:
  Runtime(const Limits& limits, const std::tm& now) : budget_(limits), now_(now) {}

  Budget& budget() { return budget_; }
  const std::tm& now() const { return now_; }

  // Values that the budget counts. Each throws Failure where a limit is passed.
  Value Text(std::string text);
  Value NewList(std::vector<Value> items = {});
  Value NewTuple(std::vector<Value> items);
  Value NewDict();
  void Append(List& list, Value item);

  template <typename T, typename... Args>
  T* Make(Args&&... args) {
    budget_.Take(sizeof(T) + 64);
    auto cell = std::make_unique<T>(std::forward<Args>(args)...);
    T* made = cell.get();
    cells_.push_back(std::move(cell));
    return made;
  }

 private:
  Budget budget_;  // first: cells give strings back to it
  std::tm now_;
  std::vector<std::unique_ptr<Cell>> cells_;
};

// Text that grows piece by piece, counted as it grows.
class OutputBuffer {
 public:
  explicit OutputBuffer(Budget& budget) : budget_(budget) {}
  ~OutputBuffer() { budget_.Return(counted_bytes_); }
  OutputBuffer(const OutputBuffer&) = delete;
  OutputBuffer& operator=(const OutputBuffer&) = delete;

  // Throws Failure where the output becomes too long.
  void Append(std::string_view text);
  std::string Take() { return std::move(text_); }

 private:
  Budget& budget_;
  std::string text_;
  uint64_t counted_bytes_ = 0;
};

// Puts arguments in the order of `names`, positional ones first; what is not given is undefined.
// `what` is the function's name in messages. Throws Failure for an argument that is not in `names`
// or is given twice, and where fewer than n_required are given.
std::vector<Value> Bind(const Arguments& arguments, const std::string& what,
                        const std::vector<const char*>& names, size_t n_required = 0);

}  // namespace thermocline::jinja
