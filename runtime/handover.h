// How a layer's FFN crosses between the tiers. The input x (d_model per token) goes from the fast
// tier to the slow one, one partial y comes back; nothing of width d_ff ever does. Both directions
// are a copy and a signal: the receiver waits for the signal, so that both tiers compute at the
// same time.
//
// One step of the model makes a sequence of hand-overs, in layer order; every lane counts its own.
#pragma once

#include <cstdint>
#include <cstring>

#include "runtime/team.h"

namespace thermocline {

class Handover {
 public:
  // x_cold, predictor_x_cold: (max_tokens, d_model) in the slow tier's memory; the second is null
  // where the slow tier's predictor reads what its FFN reads.
  Handover(ThreadTeam& team, float* x_cold, float* predictor_x_cold, int64_t d_model)
      : x_cold_(x_cold),
        predictor_x_cold_(predictor_x_cold),
        d_model_(d_model),
        input_(team.MakeSignal()),
        output_(team.MakeSignal()) {}

  // Before the lanes of a step start.
  void BeginStep() {
    input_base_ = input_->value();
    output_base_ = output_->value();
  }
  // `index`: how many hand-overs of this step came before. Sending is for one lane of the sending
  // tier.
  // predictor_x: what the predictor reads; null where that is x.
  void SendInput(const float* x, const float* predictor_x, int64_t n_tokens) {
    const size_t n_bytes = static_cast<size_t>(n_tokens * d_model_) * sizeof(float);
    std::memcpy(x_cold_, x, n_bytes);
    if (predictor_x != nullptr) std::memcpy(predictor_x_cold_, predictor_x, n_bytes);
    input_->Advance();
  }
  void AwaitInput(uint32_t index) const { input_->AwaitChange(input_base_ + index); }
  void SendOutput() { output_->Advance(); }
  void AwaitOutput(uint32_t index) const { output_->AwaitChange(output_base_ + index); }

 private:
  float* x_cold_;
  float* predictor_x_cold_;
  int64_t d_model_;
  Signal* input_;
  Signal* output_;
  uint32_t input_base_ = 0;
  uint32_t output_base_ = 0;
};

}  // namespace thermocline
