#include "runtime/convert/model_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"
#include "runtime/load/weights.h"
#include "runtime/model/families.h"

namespace thermocline {
namespace {

constexpr uint64_t kPieceBytes = 8U << 20;
constexpr uint64_t kMiB = 1U << 20;

// PowerInfer's magic says that a model computes with ReLU, and that its context counts all rows of
// the table of positions; what is written here has another magic, and keys instead.
void TellWhatTheMagicSays(const GgufReader& gguf, GgufWriter& writer) {
  if (gguf.container() != GgufContainer::kPowerInfer) return;
  const std::string architecture = gguf.RequireString("general.architecture");
  const std::string key = architecture + ".hidden_activation";
  if (gguf.Find(key) == nullptr) writer.Set(key, GgufValue::string("relu"));
  const ModelConfig config = ReadModelConfig(gguf, FindFamily(gguf));
  if (config.position_offset == 0) return;
  writer.Set(architecture + ".context_length",
             GgufValue::u32(static_cast<uint32_t>(config.max_seq_len)));
}

}  // namespace

void CopyMetadata(const GgufReader& gguf, const std::optional<TypeRule>& rule, GgufWriter& writer) {
  for (const std::string& key : gguf.keys()) {
    if (!key.starts_with("split.")) writer.Set(key, *gguf.Find(key));
  }
  TellWhatTheMagicSays(gguf, writer);
  if (!rule) return;
  writer.Set("general.file_type", GgufValue::u32(rule->file_type()));
  writer.Set("general.quantization_version", GgufValue::u32(2));
}

void CheckOutputIsNotInput(const GgufReader& gguf, const std::string& output) {
  std::error_code ignored;
  if (!std::filesystem::equivalent(gguf.path(), output, ignored)) return;
  throw Error({.path = output,
               .what = "the output is the input",
               .hint = "choose another name for the output",
               .settings = {{Setting::kOutput}}});
}

TensorCopier::TensorCopier(GgufWriter& writer, uint64_t total_bytes, int n_threads,
                           std::string label, ProgressFn progress)
    : writer_(writer),
      total_bytes_(total_bytes),
      label_(std::move(label)),
      progress_(std::move(progress)),
      n_threads_(n_threads) {}

void TensorCopier::Write(const void* data, uint64_t n_bytes) {
  ThrowIfInterrupted();
  writer_.Write(data, n_bytes);
  done_bytes_ += n_bytes;
  Report(progress_, label_, done_bytes_ / kMiB, (total_bytes_ + kMiB - 1) / kMiB);
}

void TensorCopier::Copy(const std::string& name, const std::byte* data, uint64_t n_bytes) {
  writer_.BeginTensor(name);
  for (uint64_t begin = 0; begin < n_bytes; begin += kPieceBytes) {
    Write(data + begin, std::min(kPieceBytes, n_bytes - begin));
  }
}

void TensorCopier::CopyRows(const std::string& name, const TensorView& view,
                            const std::vector<int32_t>& order) {
  writer_.BeginTensor(name);
  const auto n_bytes = static_cast<uint64_t>(RowBytes(view.dtype, view.cols));
  for (const int32_t row : order) Write(view.row(row), n_bytes);
}

WeightError TensorCopier::Convert(const std::string& name, const WeightRows& rows, DType dtype) {
  writer_.BeginTensor(name);
  const int64_t stride = RowBytes(dtype, rows.n_cols);
  const int64_t piece_rows =
      std::clamp<int64_t>(static_cast<int64_t>(kPieceBytes) / stride, 1, rows.n_rows);
  std::vector<std::byte> piece(static_cast<size_t>(piece_rows * stride));
  WeightError total;
  for (int64_t begin = 0; begin < rows.n_rows; begin += piece_rows) {
    const int64_t end = std::min(begin + piece_rows, rows.n_rows);
    total += ConvertRows(rows, begin, end, dtype, n_threads_, piece.data(), stride);
    Write(piece.data(), static_cast<uint64_t>((end - begin) * stride));
  }
  return total;
}

}  // namespace thermocline
