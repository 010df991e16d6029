// Models whose neurons move while they run, and what must be true of them afterwards.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "runtime/engine/engine.h"
#include "runtime/load/neuron_file.h"
#include "tests/placement/placements.h"

namespace thermocline {

inline std::string GoldenModel(const std::string& name) {
  return std::string(THERMOCLINE_SOURCE_DIR) + "/tests/golden/" + name + ".gguf";
}

// Options of a run in which half of every layer's neurons, any half, are on the fast tier.
inline EngineOptions MovingOptions(const std::string& model, const std::string& placement_path) {
  EngineOptions options;
  options.model_path = model;
  options.fast_tier = FastTier::kCpu;
  options.n_threads = 2;
  options.always_per_neuron = true;
  const OpenedModel opened(options);
  options.placement_path = placement_path;
  WritePlacement(placement_path,
                 ShuffledPlacement(PlacementFingerprint(opened.gguf()), opened.config().n_layers,
                                   opened.config().d_ff, 0.5));
  options.adapt = Adapt::kOn;
  options.adapt_in_step = true;
  options.adapt_tokens_between = 1;
  return options;
}

// Feeds n passes of some tokens, which follow from each other as random numbers do.
inline void FeedTokens(Engine& engine, int n, size_t tokens_per_pass = 1) {
  int32_t next = 5;
  std::vector<int32_t> ids(tokens_per_pass);
  for (int i = 0; i < n; ++i) {
    for (int32_t& id : ids) {
      id = next;
      next = static_cast<int32_t>((next * 31 + 7 + i) % engine.config().vocab_size);
    }
    const auto n_ids = static_cast<int64_t>(ids.size());
    if (engine.n_past() + n_ids > engine.context_tokens()) engine.Reset();
    engine.Feed(ids);
  }
}

// The placement as neurons lie now, slot by slot.
inline Placement PlacementAsItLies(Engine& engine) {
  Placement placement = engine.LearnedPlacement();
  for (size_t l = 0; l < placement.layers.size(); ++l) {
    std::vector<int32_t>& order = placement.layers[l].neuron_order;
    order.clear();
    for (const FfnSlice& slice : engine.weights().layers[l].slices) {
      order.insert(order.end(), slice.neuron_ids, slice.neuron_ids + slice.n_neurons);
    }
  }
  return placement;
}

// Every neuron lies somewhere once, and each slot of a tier in memory of the host holds all of the
// neuron that the order names.
inline void ExpectWholeNeurons(Engine& engine) {
  engine.mover()->Settle();
  const OpenedModel& model = engine.model();
  const NeuronFile file(model.gguf(), model.family(), model.config(), model.down_storage());
  for (int64_t l = 0; l < model.config().n_layers; ++l) {
    std::set<int32_t> seen;
    for (const FfnSlice& slice : engine.weights().layers[static_cast<size_t>(l)].slices) {
      for (int64_t i = 0; i < slice.n_neurons; ++i) {
        ASSERT_TRUE(seen.insert(slice.neuron_ids[i]).second);
        const bool host = &slice != engine.weights().layers[static_cast<size_t>(l)].slices.data() ||
                          model.gpu().empty();
        if (!host) continue;
        NeuronRows rows;
        file.Read(l, slice.neuron_ids[i], &rows);
        ASSERT_EQ(std::memcmp(slice.gate.row(i), rows.gate.data(), rows.gate.size()), 0);
        if (slice.is_gated()) {
          ASSERT_EQ(std::memcmp(slice.up.row(i), rows.up.data(), rows.up.size()), 0);
        }
        ASSERT_EQ(std::memcmp(slice.down.row(i), rows.down.data(), rows.down.size()), 0);
        if (slice.gate_bias != nullptr) {
          ASSERT_EQ(slice.gate_bias[i], rows.gate_bias);
        }
        if (slice.up_bias != nullptr) {
          ASSERT_EQ(slice.up_bias[i], rows.up_bias);
        }
      }
    }
    ASSERT_EQ(static_cast<int64_t>(seen.size()), model.config().d_ff_of(l));
  }
}

}  // namespace thermocline
