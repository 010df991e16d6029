// How far drafted tokens are right, as measured: what a source says of its own certainty becomes
// the chance that a token is accepted. Of each source and text, learnt while it is written; a text
// that has just begun goes by what was learnt from others.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace thermocline {

class Confidence {
 public:
  static constexpr int32_t kMaxSources = 4;
  // What extends a source's drafts counts as a source of its own.
  static constexpr int32_t ExtensionOf(int32_t source) { return kMaxSources + source; }

  // others: what was learnt from other texts; null: this is that. It must outlive this one.
  explicit Confidence(const Confidence* others = nullptr) : others_(others) {}

  // The chance that a token is accepted, where those before it are, of which its source says
  // `said` (outside [0, 1], or NaN: nothing). place: among those that were proposed to follow the
  // same token, whose chance is that of its being accepted where those before it are refused.
  double Of(int32_t source, double said, int32_t place = 0) const;
  // A token was verified, those before it accepted, and those in front of its place refused.
  void Learn(int32_t source, double said, bool accepted, int32_t place = 0);

 private:
  // Certainties close to 1 differ most in how deep a draft may go: finer there.
  static constexpr std::array<double, 13> kUpTo = {0.1, 0.2, 0.3,  0.4,  0.5,  0.6, 0.7,
                                                   0.8, 0.9, 0.95, 0.98, 0.99, 1.0};
  static constexpr size_t kSilent = kUpTo.size();
  static constexpr size_t kPlaces = 3;  // the last one's are those of all behind it
  struct Count {
    double n = 0;  // of late: older ones weigh less
    double n_accepted = 0;
  };
  using Bins = std::array<Count, kSilent + 1>;
  static size_t BinOf(double said);
  static size_t PlaceOf(int32_t place);

  const Confidence* others_;
  std::array<std::array<Bins, kPlaces>, 2 * kMaxSources> counts_ = {};
};

}  // namespace thermocline
