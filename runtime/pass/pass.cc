#include "runtime/pass/pass.h"

#include "runtime/core/error.h"

namespace thermocline {

Pass MakePass(const Batch& batch, int64_t n_layers, int64_t n_best) {
  Pass pass{.batch = &batch, .ids = {}, .segments = batch.Segments()};
  pass.layer_end = n_layers;
  for (const BatchRow& row : batch.rows) pass.ids.push_back(row.token);
  const int64_t n_wanted = batch.n_wanted();
  pass.n_best = n_best;
  if (n_wanted == 0) return pass;
  if (n_wanted == 1 && batch.rows.back().wants_logits) {
    pass.wanted = LogitsWanted::kLast;
  } else {
    pass.wanted = n_wanted == pass.n() ? LogitsWanted::kAll : LogitsWanted::kSome;
  }
  return pass;
}

}  // namespace thermocline
