// Where the time of a pass goes: a clock that is read after each part of a layer. The executor and
// the devices say which part has just ended. The part is charged with everything since the one
// before, waiting for other lanes included.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <string_view>
#include <vector>

namespace thermocline {

enum class PassPart : uint8_t {
  kEmbed,
  kQkv,        // norm and the q, k, v projections
  kRope,       // positions and the cache append
  kAttention,  // over the cache
  kOutput,     // attention's output projection
  kNorm,       // residual and the norm before the FFN
  kPredict,    // which neurons will fire
  kGate,       // gate projection; where nothing is skipped, up as well
  kUp,         // up projection of the active neurons
  kDown,
  kMerge,  // adds the tiers' parts to the residual stream
  kHead,   // last norm and the output head
  // These are there with two tiers only:
  kSend,     // the FFN's input, to the other tier
  kStream,   // the FFN of neurons whose weights are streamed
  kAwait,    // nothing to do until the other tier's part is there
  kEnqueue,  // the host tells a queued device what to do
  kFinish,   // nothing to do until the pass ends
};
inline constexpr int kPassParts = 17;
inline constexpr int kOneTierParts = 12;  // the first so many
inline constexpr std::array<std::string_view, kPassParts> kPassPartNames = {
    "embedding", "norm, q k v", "rope, append", "attention",    "attention output",
    "norm",      "predictor",   "gate",         "up",           "down",
    "merge",     "output head", "send x",       "streamed FFN", "wait for other tier",
    "enqueue",   "wait for end"};
constexpr std::string_view PassPartName(PassPart part) {
  return kPassPartNames[static_cast<size_t>(part)];
}
// Whether a thread in this part does nothing.
constexpr bool IsIdle(PassPart part) {
  return part == PassPart::kAwait || part == PassPart::kFinish;
}

// One part of a pass, in nanoseconds of the host's steady clock.
struct PassSpan {
  static constexpr int32_t kNoLayer = -1;
  int64_t begin_ns = 0;
  int64_t end_ns = 0;
  int32_t layer = kNoLayer;
  PassPart part = PassPart::kEmbed;
};
using PassTimes = std::array<int64_t, kPassParts>;  // ns by part

inline int64_t HostClockNs() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
}

// Who is told that a part has ended: a clock of the host, or the stream of a device.
class PassMarker {
 public:
  virtual ~PassMarker() = default;
  virtual void Mark(PassPart part) = 0;
  // Sets the layer of the parts that follow.
  void set_layer(int64_t layer) { layer_ = static_cast<int32_t>(layer); }

 protected:
  int32_t layer() const { return layer_; }

 private:
  int32_t layer_ = PassSpan::kNoLayer;
};

// The clock of one thread, in a cache line of its own.
class alignas(64) PassTimer final : public PassMarker {
 public:
  // keep: also keep the single spans.
  void StartAt(int64_t now_ns, bool keep) {
    set_layer(PassSpan::kNoLayer);
    last_ns_ = now_ns;
    keep_ = keep;
  }
  void Mark(PassPart part) override { MarkAt(part, HostClockNs()); }
  void MarkAt(PassPart part, int64_t now_ns) {
    times_[static_cast<size_t>(part)] += now_ns - last_ns_;
    if (keep_) spans_.push_back({last_ns_, now_ns, layer(), part});
    last_ns_ = now_ns;
  }
  const PassTimes& times() const { return times_; }
  const std::vector<PassSpan>& spans() const { return spans_; }

 private:
  int64_t last_ns_ = 0;
  bool keep_ = false;
  PassTimes times_{};
  std::vector<PassSpan> spans_;
};

}  // namespace thermocline
