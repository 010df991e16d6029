#include "runtime/speculate/confidence.h"

#include <algorithm>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

// What was learnt is worth as much as so many tokens of the text itself.
constexpr double kPriorTokens = 6;
// Each token makes those before it weigh so much less: about the last 60 count.
constexpr double kFading = 0.985;
// Of a source that says nothing, and from which nothing was verified yet.
constexpr double kUnknown = 0.6;

bool IsCertainty(double said) { return said >= 0 && said <= 1; }

}  // namespace

size_t Confidence::BinOf(double said) {
  if (!IsCertainty(said)) return kSilent;
  return static_cast<size_t>(std::ranges::lower_bound(kUpTo, said) - kUpTo.begin());
}

size_t Confidence::PlaceOf(int32_t place) {
  CHECK(place >= 0);
  return std::min(static_cast<size_t>(place), kPlaces - 1);
}

double Confidence::Of(int32_t source, double said, int32_t place) const {
  CHECK(source >= 0 && source < 2 * kMaxSources);
  double prior = IsCertainty(said) ? said : kUnknown;
  if (others_ != nullptr) prior = others_->Of(source, said, place);
  const Count& count = counts_[static_cast<size_t>(source)][PlaceOf(place)][BinOf(said)];
  return (count.n_accepted + kPriorTokens * prior) / (count.n + kPriorTokens);
}

void Confidence::Learn(int32_t source, double said, bool accepted, int32_t place) {
  CHECK(source >= 0 && source < 2 * kMaxSources);
  Count& count = counts_[static_cast<size_t>(source)][PlaceOf(place)][BinOf(said)];
  count.n = kFading * count.n + 1;
  count.n_accepted = kFading * count.n_accepted + (accepted ? 1 : 0);
}

}  // namespace thermocline
