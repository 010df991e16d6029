// One layer of a model over the tokens of a text, again and again with other thresholds: what a
// change does not reach is kept from the run before.
#pragma once

#include <memory>
#include <vector>

#include "runtime/engine/engine.h"
#include "runtime/load/model_cuts.h"

namespace thermocline {

// It has a device, an executor and cuts of its own, and shares the engine's weights: several work
// side by side, each on layers of its own.
class LayerRunner {
 public:
  // n_tokens: of the text. Everything referenced must outlive it. REQUIRES: an engine on the CPU
  // with one tier and one stream.
  LayerRunner(Engine& engine, ModelCuts& cuts, int64_t n_tokens, int n_lanes);
  ~LayerRunner();

  // Begins a layer whose input is x: (n_tokens, d_model), with nothing left out.
  void Begin(int64_t layer, ThresholdMethod method, const std::vector<float>& x);
  // The layer's output then.
  const std::vector<float>& dense() const { return dense_; }
  // Returns the output with these shares, which differ from those accepted in one matrix; valid
  // until the next call.
  const std::vector<float>& Try(size_t matrix, const MatrixShares& shares);
  // Has later trials start from these shares, which were tried.
  void Accept(size_t matrix, const MatrixShares& shares);

 private:
  // What becomes of the tokens on their way through a layer: each (n_tokens, its width).
  struct Inside {
    std::vector<float> attended;  // the residual stream behind attention
    std::vector<float> x;         // what the FFN reads
    std::vector<float> gate;
    std::vector<float> up;
    std::vector<float> h;
  };
  // Whether the layer can be run in parts, here: most families'.
  bool HasParts(int64_t layer) const;
  // Runs the layer as a whole.
  void RunWhole(SparseMode mode);
  // Runs what follows from a change in a matrix; of the rest it takes what was accepted.
  void RunFrom(size_t matrix, SparseMode mode);
  const ChannelCut* CutOf(const ChannelCut& cut, SparseMode mode) const {
    return mode == SparseMode::kThreshold && cut.least > 0 ? &cut : nullptr;
  }

  Engine& engine_;
  ModelCuts& cuts_;
  int64_t n_;
  std::unique_ptr<Device> device_;
  ThreadTeam team_;
  LaneGroup* lanes_;
  std::unique_ptr<KvCache> cache_;
  std::unique_ptr<ChannelCuts> own_cuts_;
  std::unique_ptr<Executor> executor_;

  int64_t layer_ = 0;
  ThresholdMethod method_ = ThresholdMethod::kTeal;
  const std::vector<float>* x_ = nullptr;
  bool in_parts_ = false;
  std::vector<float> dense_;
  std::vector<float> y_;
  Inside accepted_;
  Inside tried_;
  size_t tried_matrix_ = 0;
  MatrixShares tried_shares_{};
};

}  // namespace thermocline
