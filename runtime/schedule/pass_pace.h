// How long passes take, as measured so far: so that pieces of prompts are cut to a size that those
// who write do not wait long for. A pass takes as long as one of a single row, and for every
// further row, of a text that is being written or of a prompt, some more.
#pragma once

#include <cstdint>

namespace thermocline {

class PassPace {
 public:
  // A pass fed n_written rows of texts that are being written and n_read tokens of prompts.
  void Measure(int64_t n_written, int64_t n_read, double ms);
  // Whether a pass that reads nothing should show what one takes: it is not known, or was not seen
  // for a while, and one sample may have been disturbed.
  bool wants_writing() const { return single_ms_ == 0 || n_since_writing_ >= kMostSinceWriting; }
  // How many tokens of prompts, beside n_written rows, make a pass take about `times` as long as
  // one of a single row; at least a few, so that every prompt gets on. 0: not known yet.
  int64_t ReadTokens(double times, int64_t n_written) const;
  // What a further row takes; 0: not known yet.
  double RowMs() const { return row_ms_; }

 private:
  static constexpr int64_t kMostSinceWriting = 8;

  int64_t n_since_writing_ = 0;  // passes
  int64_t n_writing_ = 0;        // passes that read nothing, so far
  double single_ms_ = 0;         // of a pass of one row
  double row_ms_ = 0;            // of each further row
};

}  // namespace thermocline
