// The fast tier works behind the host: one thread enqueues its part of a pass, or has a kept one
// carried out again; then all threads are the other tiers and go through the layers with it.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "runtime/pass/pass_runner.h"
#include "runtime/pass/tier_ffn.h"

namespace thermocline {

class QueuedRunner : public PassRunner {
 public:
  QueuedRunner(PassContext& context, QueuedDevice& queued)
      : context_(context), queued_(queued), ffn_(context) {}

  void RunAll(const Pass& pass) override;
  void Embed(const Pass& pass, float* x) override;
  void RunLayers(const Pass& pass, float* x) override;
  void Attention(const Lanes& lanes, int64_t layer, const Pass& pass) override;
  void Ffn(const Lanes& lanes, int64_t layer, const Pass& pass) override;
  std::span<const float> Logits(int64_t begin, int64_t n) override;
  int64_t max_best() const override { return queued_.max_best(); }
  std::span<const float> Hidden(int64_t n) override;
  std::vector<TokenLogit> Best(int64_t row, int64_t k) const override {
    return queued_.Best(row, k);
  }
  void TimePasses(bool on) override { marks_ = queued_.TimePasses(on); }
  void AddTimes(PassProfile* profile) override;

 protected:
  PassContext& context() const { return context_; }
  TierFfn& tier_ffn() { return ffn_; }
  // The other tiers' part of layers [layer_begin, layer_end), by all threads.
  virtual void RunSlowTiers(const Pass& pass, int64_t layer_begin, int64_t layer_end);
  // The other tiers' work, by all threads of the host. Where it fails the device waits no more.
  void RunOnHost(const std::function<void(const Lane&)>& work);
  void Finish();

 private:
  void BeginPass(const Pass& pass);
  Lanes EnqueuingLanes() const;
  void Enqueue(const Pass& pass);
  void EnqueueHead(const Lane& lane, const Pass& pass);
  void RunKept(const Pass& pass, int64_t key);
  int64_t KeyOf(const Pass& pass) const;
  void RunLayersOneByOne(const Pass& pass);
  void KeepHidden(int64_t layer, int64_t n);
  void Observe(int64_t layer, int64_t n);
  void Fetch(std::vector<float>* to, const float* from, int64_t n);

  PassContext& context_;
  QueuedDevice& queued_;
  TierFfn ffn_;
  PassMarker* marks_ = nullptr;  // where passes are timed
  BusTraffic traffic_before_;    // this pass
  std::vector<float> logits_;
  std::vector<float> h_;
  std::vector<float> x_;
  std::vector<float> attended_;
  std::vector<float> attention_x_;
};

}  // namespace thermocline
