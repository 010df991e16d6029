// Neurons that change tiers while a model runs, so that the hot sets follow the text.
//
// The devices count which neurons fire (FfnOp::fired). Between two passes the mover looks at one
// layer's counters and hands them to a thread of its own, which decides by MovePolicy and stages
// the weights of those that change places beside the tiers' weights (row_exchange.h) while further
// passes run. Between two later passes they are put in their places on both tiers at once. A layer
// keeps as many neurons on each tier as the placement gave it, and its matrices stay where they
// are.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "runtime/device/device.h"
#include "runtime/device/row_exchange.h"
#include "runtime/load/model_predictor.h"
#include "runtime/load/neuron_file.h"
#include "runtime/load/weights.h"
#include "runtime/moves/move_policy.h"
#include "runtime/pass/pass_context.h"

namespace thermocline {

// What a mover works on. All must outlive it. weights: loaded with movable_neurons, on two tiers.
struct MovedModel {
  const GgufReader* gguf = nullptr;
  const Family* family = nullptr;
  const ModelConfig* config = nullptr;
  DownStorage down;
  LoadedWeights* weights = nullptr;
  LoadedPredictor* loaded_predictor = nullptr;  // of the slow tier; empty: none
  const ModelPredictor* predictor = nullptr;    // null: none
  std::vector<Device*> tiers;                   // from the fastest on
};

struct MoverOptions : MoveOptions {
  // Wait for the thread between passes: the same moves from run to run.
  bool in_step = false;
};

class NeuronMover {
 public:
  NeuronMover(const MovedModel& model, const MoverOptions& options);
  ~NeuronMover();
  NeuronMover(const NeuronMover&) = delete;
  NeuronMover& operator=(const NeuronMover&) = delete;

  // What it makes of each device, for the memory plan: a row exchange of these limits, and counters
  // for the neurons of layers that move. row_types: of all that a neuron has a row of.
  // predictor_bytes: of a neuron's row in the predictor, or 0.
  static RowExchangeLimits ExchangeLimits(int64_t d_model, std::vector<DType> row_types,
                                          uint64_t predictor_bytes);
  static uint64_t CounterBytes(int64_t n_neurons);
  // Whether it makes a difference where such a layer's neurons lie: only some are computed whole.
  static bool MayMove(const FfnConfig& ffn) { return ffn.has_true_zeros() && !ffn.cuts_gates; }

  // What Executor::set_fired takes.
  const FiredCounters& fired() const { return fired_; }
  // What Executor::set_between_passes takes. Throws what the thread has thrown.
  void BetweenPasses(int64_t n_tokens);
  // Waits for the thread, and puts what it has staged in its place. Between passes.
  void Settle();

  int64_t n_swaps() const { return n_swaps_; }
  int64_t n_tokens() const { return n_tokens_; }  // that were counted
  // The order of a layer's neurons, those on the fast tier first: on each tier by what was learned
  // of them, the hottest first, once that is something. REQUIRES: settled.
  std::vector<int32_t> LearnedOrder(int64_t layer) const;

 private:
  enum class State : uint8_t { kIdle, kWorking, kStaged, kStop };
  // A layer's turn.
  struct Turn {
    int64_t layer = 0;
    int64_t n_tokens = 0;
    std::vector<uint32_t> fired;  // by position in the layer's order
    std::vector<NeuronSwap> swaps;
  };

  void MakeCounters(std::span<const MovePolicy::Layer> layers);
  // Reads the layer's counters, and has the thread take its turn.
  void BeginTurn(int64_t layer);
  std::vector<uint32_t> ReadCounters(int64_t layer) const;
  // Takes over from the thread: true where it has nothing under way. Throws what it has thrown.
  bool TakeOver(bool wait);
  void Commit();
  const FfnSlice& slice(int64_t layer, size_t tier) const;
  // Where a layer's position in its order lies.
  struct Place {
    size_t tier;
    int64_t slot;  // in the tier's slice
  };
  Place PlaceOf(int64_t layer, int64_t position) const;
  // ---- on the thread ----
  void Work();
  void TakeTurn();
  void ReadNeuron(int64_t layer, int64_t position, NeuronRows* rows) const;
  // Stages the neuron that is `channel` for a position.
  void StageNeuron(int64_t layer, int64_t position, int32_t channel, const NeuronRows& rows);

  MovedModel model_;
  MoverOptions options_;
  NeuronFile file_;
  MovePolicy policy_;
  FiredCounters fired_;
  std::vector<std::vector<uint32_t>> seen_;  // (n_layers) counters at the layer's last turn
  std::vector<int64_t> seen_tokens_;         // (n_layers) n_tokens_ at that turn
  std::vector<std::unique_ptr<RowExchange>> exchanges_;  // by tier
  Turn turn_;
  int64_t n_tokens_ = 0;
  int64_t n_swaps_ = 0;

  std::mutex mutex_;
  std::condition_variable changed_;
  State state_ = State::kIdle;
  std::exception_ptr failure_;
  std::thread thread_;
};

}  // namespace thermocline
