// What crosses the bus between the host and a GPU during passes. A device counts it where it moves
// it. Flags, of four bytes, and reads of a flag that is not yet set are left out.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace thermocline {

enum class BusLoad : uint8_t {
  kInputs,     // token ids and positions
  kEmbedding,  // rows of the table, which lies in host memory
  kColdY,      // the slow tier's part of an FFN
  kColdX,      // what the slow tier reads
  kWeights,    // weights of cold neurons, streamed
  kCounts,     // counts of neurons
  kResults,    // logits or the best of them, and what else is downloaded
};
inline constexpr int kBusLoads = 7;
struct BusLoadInfo {
  std::string_view name;
  bool to_gpu;
};
inline constexpr std::array<BusLoadInfo, kBusLoads> kBusLoadInfos = {{{"token inputs", true},
                                                                      {"embedding rows", true},
                                                                      {"y of cold neurons", true},
                                                                      {"x for cold neurons", false},
                                                                      {"streamed weights", true},
                                                                      {"neuron counts", false},
                                                                      {"logits", false}}};

struct BusTraffic {
  std::array<uint64_t, kBusLoads> bytes{};  // by load

  void Add(BusLoad load, uint64_t n_bytes) { bytes[static_cast<size_t>(load)] += n_bytes; }
  uint64_t of(BusLoad load) const { return bytes[static_cast<size_t>(load)]; }
  BusTraffic& operator+=(const BusTraffic& other) {
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] += other.bytes[i];
    return *this;
  }
  // Returns what came since `before`.
  BusTraffic Since(const BusTraffic& before) const {
    BusTraffic difference = *this;
    for (size_t i = 0; i < bytes.size(); ++i) difference.bytes[i] -= before.bytes[i];
    return difference;
  }
  uint64_t Sum(bool to_gpu) const {
    uint64_t sum = 0;
    for (size_t i = 0; i < bytes.size(); ++i)
      sum += kBusLoadInfos[i].to_gpu == to_gpu ? bytes[i] : 0;
    return sum;
  }
};

}  // namespace thermocline
