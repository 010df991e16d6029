#include "runtime/import/quantized_source.h"

#include <fmt/format.h>

#include <algorithm>

#include "runtime/core/checked_math.h"
#include "runtime/core/error.h"

namespace thermocline {
namespace {

constexpr std::string_view kScaleEnding = "_scale_inv";  // of NAME.weight_scale_inv
constexpr std::string_view kBitnetEnding = "_scale";

bool IsFloat(SafetensorsType type) {
  return type == SafetensorsType::kF64 || type == SafetensorsType::kF32 ||
         type == SafetensorsType::kF16 || type == SafetensorsType::kBF16;
}

[[noreturn]] void FailTensor(const SafetensorsModel& model, const SafetensorsTensor& tensor,
                             std::string expected, std::string found) {
  throw Error({.path = model.PathOf(tensor),
               .what = "tensor " + Printable(tensor.name),
               .expected = std::move(expected),
               .found = std::move(found)});
}

// Returns the scales of a tensor: floats.
const SafetensorsTensor& ScalesOf(const SafetensorsModel& model, const SafetensorsTensor& tensor,
                                  std::string_view ending) {
  const std::string name = tensor.name + std::string(ending);
  const SafetensorsTensor* scales = model.Find(name);
  if (scales == nullptr) {
    FailTensor(model, tensor, fmt::format("its scales, {}", Printable(name)), "no such tensor");
  }
  if (!IsFloat(scales->type)) {
    FailTensor(model, *scales, "F32, F16 or BF16", std::string(scales->info().name));
  }
  return *scales;
}

}  // namespace

QuantizedSource::QuantizedSource(const HfConfig& config, const HfImport& family) {
  // The first models of BitNet were rounded when they were read, which their class stands for.
  const auto classes = config.GetStrings("architectures").value_or(std::vector<std::string>());
  rounds_to_ternary_ =
      family.architecture == "bitnet" && !classes.empty() && classes.front() == "BitnetForCausalLM";
  const auto how = config.GetObject("quantization_config");
  if (!how) return;
  const std::string method = how->GetString("quant_method").value_or("");
  if (method == "fp8") {
    kind_ = Kind::kFp8;
    const auto block = how->GetFloats("weight_block_size").value_or(std::vector<double>());
    const auto is_size = [](double size) { return size >= 1 && size <= kMaxHfDim; };
    if (!block.empty() && (block.size() != 2 || !std::ranges::all_of(block, is_size))) {
      how->Fail("weight_block_size", "two sizes, rows and columns",
                fmt::format("{} numbers", block.size()));
    }
    block_rows_ = block.empty() ? 0 : static_cast<int64_t>(block[0]);
    block_cols_ = block.empty() ? 0 : static_cast<int64_t>(block[1]);
  } else if (method == "bitnet" && family.architecture == "bitnet") {
    kind_ = Kind::kBitnet;
    if (how->GetString("quantization_mode") == "online") rounds_to_ternary_ = true;
    // Of two ways to write such models one stores the scale's inverse.
    divides_by_scale_ = how->GetString("linear_class").value_or("bitlinear") != "autobitlinear";
  } else {
    how->Fail("quant_method", "fp8 (8-bit floats with scales), or no quantization_config",
              method.empty() ? "no such key" : Printable(method),
              "start from the model's own BF16 or F16 weights");
  }
}

bool QuantizedSource::IsScale(std::string_view name) const {
  if (kind_ == Kind::kNone) return false;
  return name.ends_with(kind_ == Kind::kFp8 ? ".weight_scale_inv" : ".weight_scale");
}

void QuantizedSource::Apply(const SafetensorsModel& model, ImportedTensor* tensor) const {
  const SafetensorsTensor& source = *tensor->source;
  if (source.type == SafetensorsType::kU8 && kind_ == Kind::kBitnet &&
      tensor->transform == HfTransform::kTernary) {
    return ApplyBitnet(model, tensor);
  }
  if (!rounds_to_ternary_ && tensor->transform == HfTransform::kTernary) {
    tensor->transform = HfTransform::kNone;
  }
  const bool eight_bits =
      source.type == SafetensorsType::kF8E4M3 || source.type == SafetensorsType::kF8E5M2;
  if (eight_bits && kind_ == Kind::kFp8) return ApplyFp8(model, tensor);
  if (IsFloat(source.type)) return;
  FailTensor(model, source,
             "F32, F16 or BF16; or 8-bit floats and the config's word on their scales",
             std::string(source.info().name));
}

void QuantizedSource::ApplyFp8(const SafetensorsModel& model, ImportedTensor* tensor) const {
  const SafetensorsTensor& source = *tensor->source;
  const SafetensorsTensor& scales = ScalesOf(model, source, kScaleEnding);
  if (source.shape.size() != 2) FailTensor(model, source, "a matrix", ShapeText(source.shape));
  const auto rows = static_cast<int64_t>(source.shape[0]);
  const auto cols = static_cast<int64_t>(source.shape[1]);
  BlockScales blocks{.tensor = &scales, .block_rows = rows, .block_cols = cols};
  uint64_t wanted = 1;
  if (block_rows_ > 0 && scales.n_elements != 1) {
    blocks.block_rows = block_rows_;
    blocks.block_cols = block_cols_;
    blocks.n_across = CeilDiv(cols, block_cols_);
    wanted = static_cast<uint64_t>(CeilDiv(rows, block_rows_) * blocks.n_across);
    const bool is_grid =
        scales.shape.size() == 2 && scales.shape[1] == static_cast<uint64_t>(blocks.n_across);
    if (!is_grid) wanted = 0;
  }
  if (scales.n_elements != wanted) {
    FailTensor(model, scales,
               fmt::format("a scale for each {} x {} weights of {}", blocks.block_rows,
                           blocks.block_cols, ShapeText(source.shape)),
               ShapeText(scales.shape));
  }
  tensor->scales = blocks;
}

void QuantizedSource::ApplyBitnet(const SafetensorsModel& model, ImportedTensor* tensor) const {
  const SafetensorsTensor& source = *tensor->source;
  const SafetensorsTensor& scales = ScalesOf(model, source, kBitnetEnding);
  if (source.shape.size() != 2 || scales.n_elements != 1) {
    FailTensor(model, source, "a matrix with one scale",
               ShapeText(source.shape) + " with " + ShapeText(scales.shape));
  }
  const auto rows = static_cast<int64_t>(4 * source.shape[0]);
  tensor->dims[1] = static_cast<uint64_t>(rows);
  tensor->scales = {.tensor = &scales,
                    .block_rows = rows,
                    .block_cols = tensor->cols(),
                    .n_across = 1,
                    .divides = divides_by_scale_};
  tensor->packed_ternary = true;
  tensor->transform = HfTransform::kNone;
}

}  // namespace thermocline
