// Threads of the host run all tiers: each thread goes through the list of ops as a lane, and while
// several tiers run, as a lane of one of them.
#pragma once

#include <array>
#include <span>
#include <vector>

#include "runtime/pass/pass_runner.h"
#include "runtime/pass/tier_ffn.h"

namespace thermocline {

class HostRunner final : public PassRunner {
 public:
  explicit HostRunner(PassContext& context);

  void RunAll(const Pass& pass) override;
  void Embed(const Pass& pass, float* x) override;
  void RunLayers(const Pass& pass, float* x) override;
  void Attention(const Lanes& lanes, int64_t layer, const Pass& pass) override;
  void Ffn(const Lanes& lanes, int64_t layer, const Pass& pass) override;
  std::span<const float> Logits(int64_t begin, int64_t n) override {
    return {context_.state.logits + begin, static_cast<size_t>(n)};
  }
  int64_t max_best() const override { return 0; }  // the logits lie in host memory anyway
  std::span<const float> Hidden(int64_t n) override {
    return {context_.state.xn, static_cast<size_t>(n)};
  }
  std::vector<TokenLogit> Best(int64_t /*row*/, int64_t /*k*/) const override { return {}; }
  void TimePasses(bool /*on*/) override {}
  void AddTimes(PassProfile* /*profile*/) override {}

 private:
  // The threads of a group: [first, first + n).
  struct Group {
    int first = 0;
    int n = 0;
    LaneGroup* lanes = nullptr;
  };
  void MakeGroups();
  Lanes LanesOf(int thread) const;
  void RunLayersOf(const Lanes& lanes, const Pass& pass);
  void KeepHidden(int64_t layer, int64_t n);

  PassContext& context_;
  TierFfn ffn_;
  // While several tiers run. Where there are fewer threads than tiers, the last group has the rest
  // of the tiers and runs them one after the other.
  std::vector<Group> groups_;
};

}  // namespace thermocline
