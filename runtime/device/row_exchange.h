// Rows of weights in a device's memory that others take the place of while a model runs.
//
// What comes is staged beside the weights by a thread of its own, while passes read the weights.
// Between two passes Commit puts it in its place: a pass sees all of it or nothing. Matrices stay
// where they are, so that passes that a queue keeps stay valid.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "runtime/core/tensor_view.h"

namespace thermocline {

// The most that is staged between two commits.
struct RowExchangeLimits {
  int64_t max_rows = 0;       // numbers count as rows
  std::vector<DType> dtypes;  // of rows of `cols`
  int64_t cols = 0;
  uint64_t other_row_bytes = 0;  // of rows of another width, as they lie on the device
};

class RowExchange {
 public:
  virtual ~RowExchange() = default;

  // ---- by one thread at a time, beside passes ----

  // Takes the new content of a row of a matrix that StoreRows or Allocate and Upload put into this
  // device's memory. source: in a file's form.
  virtual void StageRow(const TensorView& matrix, int64_t row, const std::byte* source) = 0;
  // The same of one number.
  virtual void StageFloat(const float* at, float value) = 0;
  // Returns when all of it is on the device. Throws Error when it does not get there.
  virtual void Send() = 0;

  // ---- between two passes, by the thread that runs them ----

  // Puts everything that was sent in its place, before what the device does next.
  virtual void Commit() = 0;
};

}  // namespace thermocline
