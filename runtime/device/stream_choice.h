// Where the cold neurons of a batch are computed: by the CPU where they lie, or by the GPU, their
// weights streamed over the bus. The two round differently, so that the choice is the user's, or
// (kAuto) follows from rates that are measured once, before the first batch, and from the number of
// tokens alone: the same batch goes the same way for as long as the engine lives. From one run to
// the next rates differ, and near the crossing the choice may.
#pragma once

#include <algorithm>
#include <cstdint>

namespace thermocline {

enum class StreamCold : uint8_t { kAuto, kOn, kOff };

// All on the same neurons, in bytes of their weights as the host has them.
struct StreamRates {
  double bus_bytes_per_s = 0;        // packed by all threads and copied, beside each other
  double gpu_token_bytes_per_s = 0;  // bytes times tokens of the batch, dequantised and multiplied
  double cpu_token_bytes_per_s = 0;  // the CPU's FFN, all threads

  bool measured() const { return cpu_token_bytes_per_s > 0; }
  // Return what one byte of weights takes. Streamed, the copy and the product run at the same time.
  double StreamedSeconds(int64_t n_tokens) const {
    return std::max(1 / bus_bytes_per_s, static_cast<double>(n_tokens) / gpu_token_bytes_per_s);
  }
  double CpuSeconds(int64_t n_tokens) const {
    return static_cast<double>(n_tokens) / cpu_token_bytes_per_s;
  }
};

// REQUIRES: rates.measured() in kAuto.
inline bool StreamsBatch(StreamCold option, const StreamRates& rates, int64_t n_tokens) {
  if (option != StreamCold::kAuto) return option == StreamCold::kOn;
  return rates.StreamedSeconds(n_tokens) < rates.CpuSeconds(n_tokens);
}

// What was chosen so far, for the summary of a run.
struct StreamUse {
  bool possible = false;  // there are cold neurons, batches and a GPU, and it is not kOff
  StreamCold option = StreamCold::kOff;
  StreamRates rates;  // where they were measured
  int64_t streamed_batches = 0;
  int64_t cpu_batches = 0;
};

}  // namespace thermocline
