#include "profiler/predictors/predictor_streams.h"

#include <algorithm>

#include "profiler/activations/activation_counter.h"
#include "profiler/predictors/predictor_observers.h"
#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"

namespace thermocline {

template <typename Body>
void StreamRunner::ForChunks(TokenStream& stream, const Body& body) {
  const int64_t batch = engine_.model().executor_options().max_tokens;
  int64_t at = 0;
  for (const std::vector<int32_t>& window : stream.split->windows) {
    const auto n_window = static_cast<int64_t>(window.size());
    for (int64_t first = 0; first < n_window; first += batch) {
      ThrowIfInterrupted();
      const int64_t n = std::min(batch, n_window - first);
      body(std::span(window).subspan(static_cast<size_t>(first), static_cast<size_t>(n)), first,
           stream.x.data() + (at + first) * engine_.config().d_model);
    }
    at += n_window;
  }
}

void StreamRunner::Embed(TokenStream& stream) {
  stream.x.resize(static_cast<size_t>(stream.split->n_tokens * engine_.config().d_model));
  if (keep_inputs_) stream.previous.resize(stream.x.size());
  ForChunks(stream, [&](std::span<const int32_t> ids, int64_t /*first*/, float* x) {
    engine_.executor().Embed(ids, x);
  });
}

void StreamRunner::RunLayer(TokenStream& stream, int64_t layer, FfnObserver* observer,
                            CrossMoments* cross) {
  CHECK(cross == nullptr || keep_inputs_);
  if (!keep_inputs_) return Pass(stream, layer, observer);
  LookAheadObserver ahead(stream.previous, observer, cross);
  Pass(stream, layer, &ahead);
}

void StreamRunner::Pass(TokenStream& stream, int64_t layer, FfnObserver* observer) {
  const ScopedObserver watching(engine_.executor(), observer);
  ForChunks(stream, [&](std::span<const int32_t> ids, int64_t first, float* x) {
    const auto n = static_cast<int64_t>(ids.size());
    engine_.executor().RunLayers(x, n, first, layer, layer + 1);
    done_ += static_cast<uint64_t>(n);
    Report(progress_, "tokens through layers", done_, total_);
  });
}

}  // namespace thermocline
