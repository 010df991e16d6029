// The residual streams of a text's tokens on their way through the layers: all tokens go through
// one layer before any goes through the next.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "predictor/input_moments.h"
#include "profiler/predictors/predictor_build.h"

namespace thermocline {

struct TokenStream {
  const TokenWindows* split = nullptr;
  std::vector<float> x = {};         // (n_tokens, d_model)
  std::vector<float> previous = {};  // (n_tokens, d_model) FFN inputs of the layer run last
};

class StreamRunner {
 public:
  // keep_inputs: observers see the layer before (LookAheadObserver), and streams keep `previous`
  // for it. total: tokens times layers of all the work, for the progress.
  StreamRunner(Engine& engine, bool keep_inputs, uint64_t total, ProgressFn progress)
      : engine_(engine), keep_inputs_(keep_inputs), total_(total), progress_(std::move(progress)) {}

  void Embed(TokenStream& stream);
  // Runs one layer. observer: null where nobody looks. cross: null, or sums over the inputs of this
  // layer and the one before; REQUIRES keep_inputs. Throws Interrupted between batches.
  void RunLayer(TokenStream& stream, int64_t layer, FfnObserver* observer,
                CrossMoments* cross = nullptr);

 private:
  template <typename Body>
  void ForChunks(TokenStream& stream, const Body& body);
  void Pass(TokenStream& stream, int64_t layer, FfnObserver* observer);

  Engine& engine_;
  const bool keep_inputs_;
  const uint64_t total_;
  const ProgressFn progress_;
  uint64_t done_ = 0;
};

}  // namespace thermocline
