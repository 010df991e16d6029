#include "profiler/drafts/fit_stand_in.h"

#include "predictor/low_rank.h"
#include "runtime/core/error.h"

namespace thermocline {
namespace {

// Of the inputs' mean variance: directions that hardly vary in the text are told apart by chance.
constexpr double kDraftRidge = 1e-3;

}  // namespace

LowRankMap FitLowRank(const LeftOutMoments& moments, int64_t d_model, int64_t rank) {
  CHECK(rank >= 1 && rank <= d_model);
  const std::vector<double> metric = moments.inputs().Covariance(kDraftRidge);
  std::vector<float> identity(static_cast<size_t>(d_model * d_model), 0.0F);
  for (int64_t i = 0; i < d_model; ++i) identity[static_cast<size_t>(i * d_model + i)] = 1;
  // Of all linear maps the best, and of those of a rank the one nearest to it on these inputs.
  const std::vector<float> best =
      RegressOn(identity.data(), d_model, d_model, moments.products().Covariance(), metric);
  LowRank factors = FactorInMetric(best.data(), d_model, d_model, metric, {.rank = rank});
  return {std::move(factors.in_proj), std::move(factors.out_proj)};
}

std::vector<float> FitBias(const LeftOutMoments& moments, std::span<const float> left,
                           std::span<const float> right, int64_t rank) {
  const std::vector<double> z = moments.inputs().Mean();
  const std::vector<double> t = moments.products().MeanX();
  const auto d = static_cast<int64_t>(z.size());
  std::vector<double> low(static_cast<size_t>(rank), 0.0);
  for (int64_t r = 0; r < rank; ++r) {
    for (int64_t i = 0; i < d; ++i) {
      low[static_cast<size_t>(r)] +=
          static_cast<double>(left[static_cast<size_t>(r * d + i)]) * z[static_cast<size_t>(i)];
    }
  }
  std::vector<float> bias(static_cast<size_t>(d));
  for (int64_t i = 0; i < d; ++i) {
    double told = 0;
    for (int64_t r = 0; r < rank; ++r) {
      told += static_cast<double>(right[static_cast<size_t>(i * rank + r)]) *
              low[static_cast<size_t>(r)];
    }
    bias[static_cast<size_t>(i)] = static_cast<float>(t[static_cast<size_t>(i)] - told);
  }
  return bias;
}

}  // namespace thermocline
