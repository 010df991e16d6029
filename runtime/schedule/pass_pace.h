// How long passes take, as measured so far: so that pieces of prompts are cut to a size that those
// who write do not wait long for.
#pragma once

#include <cstdint>

namespace thermocline {

class PassPace {
 public:
  // A pass fed n_written rows of texts that are being written and n_read tokens of prompts.
  void Measure(int64_t n_written, int64_t n_read, double ms);
  // How many tokens of prompts make a pass take about `times` as long as without them; at least a
  // few, so that every prompt gets on. 0: not known yet.
  int64_t ReadTokens(double times) const;

 private:
  double write_ms_ = 0;  // of a pass that only writes; 0: none yet
  double read_ms_ = 0;   // more of it per token of a prompt; 0: none yet
};

}  // namespace thermocline
