// How large the values of one vector are, over many tokens: a histogram of |x| with bins of equal
// ratio, 256 to a power of two. From it comes the magnitude below which a given share of them lies.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace thermocline {

class MagnitudeHistogram {
 public:
  // Bin 0 counts zeros. The others go from 2^-40 to 2^24; what lies beyond is in the first and in
  // the last.
  static constexpr int kBinsPerOctave = 256;
  static constexpr size_t kBins = 1 + 64 * kBinsPerOctave;

  void Add(float x) {
    if (bins_.empty()) bins_.resize(kBins);
    ++bins_[BinOf(std::abs(x))];
    ++n_;
  }
  void Add(const float* x, int64_t n) {
    for (int64_t i = 0; i < n; ++i) Add(x[i]);
  }

  // Returns the magnitude below which a share q of the values lies, within a bin as if they lay
  // evenly there; 0 where so many are zeros. Not NaN.
  float Quantile(double q) const {
    const auto wanted = q * static_cast<double>(n_);
    double below = bins_.empty() ? 0 : static_cast<double>(bins_[0]);
    if (wanted <= below) return 0;
    for (size_t bin = 1; bin < bins_.size(); ++bin) {
      const auto count = static_cast<double>(bins_[bin]);
      if (count > 0 && below + count >= wanted) {
        const double low = Edge(bin - 1);
        return static_cast<float>(low + (Edge(bin) - low) * (wanted - below) / count);
      }
      below += count;
    }
    return static_cast<float>(Edge(kBins - 1));
  }

  int64_t n() const { return n_; }
  // Empty where nothing was added, else (kBins).
  const std::vector<int64_t>& bins() const { return bins_; }
  // REQUIRES: at most kBins counts, none negative, their sum below 2^63.
  static MagnitudeHistogram FromBins(std::vector<int64_t> bins) {
    MagnitudeHistogram histogram;
    for (const int64_t count : bins) histogram.n_ += count;
    histogram.bins_ = std::move(bins);
    histogram.bins_.resize(kBins);
    return histogram;
  }

 private:
  static constexpr uint32_t kShift = 23 - 8;  // of a float's bits: 8 of its mantissa are kept
  static constexpr uint32_t kFirst = (127U - 40U) << 8;  // bits of 2^-40 that are kept

  static size_t BinOf(float magnitude) {
    if (magnitude == 0) return 0;
    const uint32_t kept = std::bit_cast<uint32_t>(magnitude) >> kShift;
    if (kept < kFirst) return 1;
    return std::min<size_t>(kept - kFirst + 1, kBins - 1);
  }
  // Returns the upper edge of a bin.
  static double Edge(size_t bin) {
    return static_cast<double>(
        std::bit_cast<float>((kFirst + static_cast<uint32_t>(bin)) << kShift));
  }

  std::vector<int64_t> bins_;  // empty, or (kBins)
  int64_t n_ = 0;
};

}  // namespace thermocline
