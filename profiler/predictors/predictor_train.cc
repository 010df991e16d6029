#include "profiler/predictors/predictor_train.h"

#include "runtime/core/interrupt.h"
#include "runtime/threads/parallel_for.h"

namespace thermocline {

LowRank TrainMlp(int n_threads, const MlpSamples& samples, const LowRank& half,
                 const MlpTraining& training, const std::function<double(const LowRank&)>& cost) {
  MlpTrainer trainer(training.d_model, training.d_ff, half, training.options);
  trainer.Begin(samples, n_threads);
  LowRank best = trainer.weights();
  double best_cost = cost(best);
  int n_worse = 0;
  for (int epoch = 0; epoch < training.max_epochs && n_worse < training.patience; ++epoch) {
    trainer.Shuffle();
    for (int64_t batch = 0; batch < trainer.n_batches(); ++batch) {
      ThrowIfInterrupted();
      ParallelFor(n_threads, 1, n_threads, [&](int, int64_t lane, int64_t) {
        trainer.AddGradient(batch, static_cast<int>(lane));
      });
      const double done =
          epoch + static_cast<double>(batch) / static_cast<double>(trainer.n_batches());
      trainer.Step(done / training.max_epochs);
      Report(training.progress, training.label,
             static_cast<uint64_t>(epoch * trainer.n_batches() + batch + 1),
             static_cast<uint64_t>(training.max_epochs * trainer.n_batches()));
    }
    const double epoch_cost = cost(trainer.weights());
    ++n_worse;
    if (epoch_cost >= best_cost) continue;
    n_worse = 0;
    best_cost = epoch_cost;
    best = trainer.weights();
  }
  return best;
}

}  // namespace thermocline
