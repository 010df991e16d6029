// How a layer's FFN crosses between the tiers. The input x (d_model per token) goes from the fast
// tier to the slow one, one partial y comes back; nothing of width d_ff ever does. Both directions
// are a copy and a signal: the receiver waits for the signal, so that both tiers compute at the
// same time.
//
// One pass of the model makes a sequence of hand-overs, in layer order, counted by `index`.
#pragma once

#include <cstdint>
#include <cstring>

#include "runtime/device/ops.h"
#include "runtime/threads/team.h"

namespace thermocline {

class Handover {
 public:
  virtual ~Handover() = default;

  // What the slow tier reads and writes; in its memory. x, y: (max_tokens, d_model).
  // predictor_x: the same, what its predictor reads; x where that is the FFN's own input.
  virtual const float* x() const = 0;
  virtual const float* predictor_x() const = 0;
  virtual float* y() const = 0;

  // Before a pass begins.
  virtual void BeginPass() = 0;
  // The fast tier's side, by one lane. predictor_x: null where it is x.
  virtual void SendInput(const float* x, const float* predictor_x, int64_t n_tokens) = 0;
  // By every lane that needs the result. x += y_hot (unless null) and the slow tier's y.
  virtual void Merge(const Lane& lane, DeviceOps& fast, int64_t layer, uint32_t index, float* x,
                     const float* y_hot, int64_t n_tokens) = 0;
  // The slow tier's side: by every lane, and by one lane after all have written y.
  virtual void AwaitInput(const Lane& lane, uint32_t index) = 0;
  virtual void SendOutput(uint32_t index) = 0;
  // After the fast tier has finished: throws Error where it gave up waiting for the slow one.
  virtual void Check() const {}
  // The slow tier failed: nobody waits for it any more in this pass.
  virtual void Abandon() {}
};

// Between two devices of the host.
class HostHandover final : public Handover {
 public:
  // x, predictor_x, y: in the slow tier's memory; predictor_x may be null.
  HostHandover(ThreadTeam& team, float* x, float* predictor_x, float* y, int64_t d_model)
      : x_(x),
        predictor_x_(predictor_x),
        y_(y),
        d_model_(d_model),
        input_(team.MakeSignal()),
        output_(team.MakeSignal()) {}

  const float* x() const override { return x_; }
  const float* predictor_x() const override { return predictor_x_ == nullptr ? x_ : predictor_x_; }
  float* y() const override { return y_; }
  void BeginPass() override {
    input_base_ = input_->value();
    output_base_ = output_->value();
  }
  void SendInput(const float* x, const float* predictor_x, int64_t n_tokens) override {
    const size_t n_bytes = static_cast<size_t>(n_tokens * d_model_) * sizeof(float);
    std::memcpy(x_, x, n_bytes);
    if (predictor_x != nullptr) std::memcpy(predictor_x_, predictor_x, n_bytes);
    input_->Advance();
  }
  // The lanes of both tiers are one group here.
  void Merge(const Lane& lane, DeviceOps& fast, int64_t /*layer*/, uint32_t index, float* x,
             const float* y_hot, int64_t n_tokens) override {
    output_->AwaitChange(output_base_ + index);
    lane.Mark(PassPart::kAwait);
    if (y_hot != nullptr) lane.Sync();
    const float* const both[] = {y_hot == nullptr ? y_ : y_hot, y_};
    fast.Add(lane, x, {both, y_hot == nullptr ? 1U : 2U}, n_tokens * d_model_);
  }
  void AwaitInput(const Lane& /*lane*/, uint32_t index) override {
    input_->AwaitChange(input_base_ + index);
  }
  void SendOutput(uint32_t /*index*/) override { output_->Advance(); }

 private:
  float* x_;
  float* predictor_x_;
  float* y_;
  int64_t d_model_;
  Signal* input_;
  Signal* output_;
  uint32_t input_base_ = 0;
  uint32_t output_base_ = 0;
};

}  // namespace thermocline
