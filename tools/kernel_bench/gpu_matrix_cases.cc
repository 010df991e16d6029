// Products of whole matrices on the GPU: one token, and batches through cuBLAS.
#include <fmt/format.h>

#include <algorithm>
#include <random>

#include "gpu_kernels/products/activations.h"
#include "gpu_kernels/products/batch_gemm.h"
#include "gpu_kernels/products/matvec.h"
#include "tools/kernel_bench/gpu_chain.h"

namespace thermocline {
namespace {

class MatvecChain final : public GpuChain {
 public:
  MatvecChain(const std::string& name, Stream& stream, DType dtype, int64_t rows, int64_t cols)
      : GpuChain(name, stream),
        dtype_(dtype),
        rows_(rows),
        cols_(cols),
        weights_(stream, dtype, rows, cols),
        x_(UploadToGpu(stream, weights_.x())),
        vectors_memory_(GpuVectorsBytes(cols, 1), "a bench's vector"),
        vectors_(MakeGpuVectors(vectors_memory_.as<void>(), cols, 1)),
        y_(static_cast<uint64_t>(weights_.size() * rows) * sizeof(float), "a bench's result") {
    GpuPrepare(stream, x_.as<float>(), 1, PrepareOp::kCopy, vectors_);
    stream.Fill(y_.as<void>(), 0xff, y_.size());
  }
  Shape shape() const override {
    return {weights_.size(), static_cast<double>(rows_ * GpuRowBytes(dtype_, cols_)), 0, true};
  }
  void Enqueue() override {
    for (int64_t i = 0; i < weights_.size(); ++i) {
      const GpuMatvecOp op{weights_.at(i), nullptr, y_.as<float>() + i * rows_};
      GpuMatvec(stream_, {&op, 1}, vectors_, 1);
    }
  }
  void Verify() override {
    const std::vector<float> y = DownloadFromGpu<float>(stream_, y_);
    std::vector<DotReference> expected;
    for (int64_t r = 0; r < kDistinctRows; ++r) {
      expected.push_back(
          ReferenceDot(weights_.row(r).data(), weights_.x().data(), cols_, DecodeRounding(dtype_)));
    }
    for (size_t i = 0; i < y.size(); ++i) {
      const DotReference& row = expected[i % static_cast<size_t>(rows_) % kDistinctRows];
      ExpectNear(y[i], {row.value, row.allowed});
    }
  }

 private:
  DType dtype_;
  int64_t rows_;
  int64_t cols_;
  GpuMatrices weights_;
  DeviceMemory x_;
  DeviceMemory vectors_memory_;
  GpuVectors vectors_;
  DeviceMemory y_;
};

// Multiplies by a batch. Its panels are turned into f16 by the way.
class GemmChain final : public GpuChain {
 public:
  GemmChain(const std::string& name, Stream& stream, DType dtype, int64_t rows, int64_t cols,
            int64_t n_tokens)
      : GpuChain(name, stream),
        dtype_(dtype),
        rows_(rows),
        cols_(cols),
        n_tokens_(n_tokens),
        weights_(stream, dtype, rows, cols),
        x_values_(static_cast<size_t>(n_tokens * cols)),
        batch_memory_(GpuBatchBytes(cols, n_tokens), "a bench's batch"),
        batch_(MakeGpuBatch(batch_memory_.as<void>(), cols, n_tokens)),
        panel_(std::max<uint64_t>(kPanelBytes, GpuPanelBytes(cols)), "a bench's panel"),
        y_(static_cast<uint64_t>(n_tokens * rows) * sizeof(float), "a bench's result") {
    std::mt19937 rng(3);
    std::normal_distribution<float> normal;
    for (float& value : x_values_) value = normal(rng);
    x_ = UploadToGpu(stream, x_values_);
    GpuPrepareBatch(stream, x_.as<float>(), n_tokens, batch_);
    stream.Fill(y_.as<void>(), 0xff, y_.size());
  }
  Shape shape() const override {
    return {weights_.size(), static_cast<double>(rows_ * GpuRowBytes(dtype_, cols_)),
            2.0 * static_cast<double>(rows_ * cols_ * n_tokens_), false};
  }
  void Enqueue() override {
    for (int64_t i = 0; i < weights_.size(); ++i) {
      GpuBatchRows(stream_, gemm_, weights_.at(i), nullptr, batch_, n_tokens_,
                   {panel_.as<void>(), panel_.size()}, y_.as<float>());
    }
  }
  // Checks what the last link left of the first and the last token.
  void Verify() override {
    const std::vector<float> y = DownloadFromGpu<float>(stream_, y_);
    for (const int64_t token : {int64_t{0}, n_tokens_ - 1}) {
      for (int64_t d = 0; d < std::min(kDistinctRows, rows_); ++d) {
        const DotReference row =
            ReferenceDot(weights_.row(d).data(), x_values_.data() + token * cols_, cols_,
                         {.to_int8 = false, .of_value = kHalf});
        for (int64_t r = d; r < rows_; r += kDistinctRows) {
          ExpectNear(y[static_cast<size_t>(token * rows_ + r)], {row.value, row.allowed});
        }
      }
    }
  }

 private:
  static constexpr uint64_t kPanelBytes = 32 << 20;  // what the device takes
  // f16 rounds by 2^-11; tensor cores chop what they add.
  static constexpr double kHalf = 0x1p-10;
  DType dtype_;
  int64_t rows_;
  int64_t cols_;
  int64_t n_tokens_;
  GpuMatrices weights_;
  std::vector<float> x_values_;
  DeviceMemory x_;
  DeviceMemory batch_memory_;
  GpuBatch batch_;
  DeviceMemory panel_;
  DeviceMemory y_;
  GpuGemm gemm_;
};

}  // namespace

void RegisterGpuMatrixCases() {
  const bool small = GpuIsEmulated();
  for (const DType dtype : kWeightDTypes) {
    if (!GetWeightTypeInfo(dtype).written) continue;
    for (auto [rows, cols] :
         {std::pair<int64_t, int64_t>{4096, 4096}, {4096, 11008}, {11008, 4096}}) {
      if (small) rows /= 128, cols = cols == 4096 ? 256 : 768;
      AddGpuCase(fmt::format("gpu/matvec/{}/rows:{}/cols:{}", DTypeName(dtype), rows, cols),
                 [=, rows = rows, cols = cols](const std::string& name, Stream& stream) {
                   return std::make_unique<MatvecChain>(name, stream, dtype, rows, cols);
                 });
    }
  }
  const int64_t rows = small ? 32 : 4096;
  const int64_t cols = small ? 256 : 4096;
  for (const DType dtype : kWeightDTypes) {
    if (dtype == DType::kBF16 || dtype == DType::kF32) continue;
    if (!GetWeightTypeInfo(dtype).written) continue;
    for (const int64_t n_tokens : {small ? 17 : 128, small ? 33 : 512}) {
      AddGpuCase(fmt::format("gpu/gemm/{}/tokens:{}", DTypeName(dtype), n_tokens),
                 [=](const std::string& name, Stream& stream) {
                   return std::make_unique<GemmChain>(name, stream, dtype, rows, cols, n_tokens);
                 });
    }
  }
}

}  // namespace thermocline
