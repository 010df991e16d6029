// Weights that a checkpoint stores in fewer bits: 8-bit floats with a scale per block, and BitNet's
// four to a byte. What else `quantization_config` may ask for is an Error.
#pragma once

#include <cstdint>
#include <string_view>

#include "runtime/import/hf_config.h"
#include "runtime/import/imported_tensor.h"

namespace thermocline {

class QuantizedSource {
 public:
  QuantizedSource(const HfConfig& config, const HfImport& family);

  // Whether a tensor belongs to another as its scales.
  bool IsScale(std::string_view name) const;
  // Gives a tensor its scales, and checks that its type is one that is read.
  void Apply(const SafetensorsModel& model, ImportedTensor* tensor) const;

 private:
  enum class Kind : uint8_t { kNone, kFp8, kBitnet };

  void ApplyFp8(const SafetensorsModel& model, ImportedTensor* tensor) const;
  void ApplyBitnet(const SafetensorsModel& model, ImportedTensor* tensor) const;

  Kind kind_ = Kind::kNone;
  int64_t block_rows_ = 0;  // 0: one scale for the whole tensor
  int64_t block_cols_ = 0;
  bool rounds_to_ternary_ = false;  // BitNet's float weights, when they are read
  bool divides_by_scale_ = true;    // BitNet's packed weights
};

}  // namespace thermocline
