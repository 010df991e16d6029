#include "runtime/text/jinja/budget.h"

#include <fmt/format.h>

namespace thermocline::jinja {

void Fail(const std::string& what, const std::string& expected, const std::string& found,
          const std::string& hint) {
  throw Failure({.what = what, .expected = expected, .found = found, .hint = hint}, 0);
}

void Budget::Spend(uint64_t n_steps) {
  steps_ += n_steps;
  if (steps_ > limits_.max_steps) {
    Fail(fmt::format("the template takes more than {} steps", limits_.max_steps), {}, {},
         "it may loop over what it makes itself");
  }
}

void Budget::Take(uint64_t n_bytes) {
  if (n_bytes > limits_.max_memory_bytes - taken_bytes_) {
    Fail(fmt::format("the template's values take more than {} bytes", limits_.max_memory_bytes));
  }
  taken_bytes_ += n_bytes;
}

void Budget::CheckSize(uint64_t value_bytes) const {
  if (value_bytes > limits_.max_value_bytes) {
    Fail(fmt::format("the template makes a string of more than {} bytes", limits_.max_value_bytes));
  }
}

void Budget::Enter() {
  if (depth_ >= limits_.max_depth) {
    Fail(fmt::format("the template nests more than {} levels deep", limits_.max_depth), {}, {},
         "a macro may call itself, or a list may hold itself");
  }
  ++depth_;
}

}  // namespace thermocline::jinja
