// How long passes take by their number of rows, as measured while texts are written: what it costs
// to verify a token more.
#pragma once

#include <array>
#include <cstdint>

namespace thermocline {

class RowTimes {
 public:
  static constexpr int64_t kMaxRows = 128;

  // A pass of n_rows rows, none of them of a prompt, took so long.
  void Measure(int64_t n_rows, double ms);
  // Whether passes of so many rows or fewer were measured, more often than once.
  bool KnowsUpTo(int64_t n_rows) const;
  // What one of n_rows takes: between those measured by a line, beyond them as the last two say, or
  // where there is one only, a little more per row. 0: nothing was measured.
  double Of(int64_t n_rows) const;

 private:
  struct Time {
    double ms = 0;
    int64_t n = 0;
  };
  std::array<Time, kMaxRows + 1> times_ = {};
};

}  // namespace thermocline
