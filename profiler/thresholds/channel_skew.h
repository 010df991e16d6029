// How unequally often thresholds keep the channels of what matrices read: whether a tier that holds
// some of the channels would be read more than its share of the bytes.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "profiler/activations/coverage.h"
#include "runtime/engine/engine.h"
#include "runtime/placement/threshold_file.h"

namespace thermocline {

// The shares that channels are looked at with.
inline constexpr double kSkewShares[] = {0.4, 0.5};

// Of one input (of q, k, v; of o; of gate, up; of down) and one share.
struct ChannelSkew {
  size_t input = 0;
  double share = 0;  // that was asked for
  double kept = 0;   // of the channels of the held-out text, all layers together
  // Share of what is kept of the held-out text that falls on the channels that were kept most often
  // in calibration, by fraction of the channels (kHottestFractions), all layers together.
  std::array<double, kHottestFractions.size()> hottest{};
  // Of the last fraction, the layers with the least and with the most.
  double least = 0;
  double most = 0;
};

// Runs both texts dense and counts channels above TEAL's thresholds of uniform shares. Returns
// nothing where a text is too short. text: of the calibration; heldout: another.
// REQUIRES: an engine that watches attention, each layer on one tier.
std::vector<ChannelSkew> MeasureChannelSkew(Engine& engine, std::span<const int32_t> text,
                                            std::span<const int32_t> heldout,
                                            const ModelThresholds& thresholds);

}  // namespace thermocline
