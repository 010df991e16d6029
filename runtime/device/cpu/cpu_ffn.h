// What the CPU's FFN hands from the pass to its parts: between cpu_ffn.cc and cpu_predict.cc.
#pragma once

#include "runtime/device/cpu/cpu_device.h"

namespace thermocline {

// What the lanes of a pass have in common, and one lane's scratch.
struct CpuDevice::FfnPart {
  const FfnOp& op;
  const FfnState& state;
  int64_t n_tokens;
  const std::byte* gate_x;  // the tokens, prepared for gate and for up
  int64_t gate_x_stride;
  const std::byte* up_x;
  int64_t up_x_stride;
  int32_t* rows;           // of the lane
  float* h;                // of the lane
  const std::byte* inner;  // of the lane
  const SignInput* signs;  // of the lane
  float* partial;          // (n_tokens, d_model) of the part
  PassMarker* timer;
};

}  // namespace thermocline
