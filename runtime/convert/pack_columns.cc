#include "runtime/convert/pack_columns.h"

#include <cmath>
#include <map>
#include <numeric>

#include "runtime/core/aligned_buffer.h"
#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"
#include "runtime/load/weights.h"
#include "runtime/model/families.h"
#include "runtime/model/stored_ffn.h"

namespace thermocline {
namespace {

class ColumnPacker {
 public:
  ColumnPacker(const std::string& input, const PackColumnsOptions& options)
      : options_(options),
        gguf_(OpenModelFile(input)),
        family_(FindFamily(gguf_)),
        config_(ReadModelConfig(gguf_, family_)) {
    if (IsPacked(gguf_) || config_.by_column) {
      throw Error({.path = input,
                   .what = "the model is packed already",
                   .hint = "pack from the model it was made of"});
    }
    if (config_.has_encoder() || family_.sub_norms) {
      throw Error({.path = input, .what = "models of this family run without thresholds"});
    }
    if (options.rule) chooser_.emplace(gguf_, *options.rule);
    CheckTensors(gguf_, family_, config_);
  }

  PackReport Pack(const std::string& output) {
    CheckOutputIsNotInput(gguf_, output);
    ForEachTensor(gguf_, family_.tensors, config_,
                  [&](const ModelTensor& tensor, const GgufTensorInfo* info) {
                    if (info == nullptr || tensor.unused) return;
                    const TensorRole role = tensor.row->role;
                    if (IsStoredByColumn(role) || role == TensorRole::kDown) {
                      turned_[tensor.name] = tensor;
                    }
                  });
    GgufWriter writer(output, kPackedAlignment);
    CopyMetadata(gguf_, options_.rule, writer);
    writer.Set(kColumnsSourceKey, GgufValue::string(gguf_.fingerprint()));
    uint64_t total_bytes = 0;
    for (const GgufTensorInfo& tensor : gguf_.tensors()) {
      const auto turned = turned_.find(tensor.name);
      if (turned == turned_.end()) {
        writer.DeclareTensor(tensor.name, TypeOf(tensor), tensor.dims);
      } else {
        writer.DeclareTensor(NameOf(turned->second), TurnedType(tensor),
                             {tensor.rows(), tensor.cols()});
      }
      total_bytes += tensor.n_bytes;
    }
    TensorCopier copier(writer, total_bytes, options_.n_threads, "packing (MiB)",
                        options_.progress);
    for (const GgufTensorInfo& tensor : gguf_.tensors()) {
      ThrowIfInterrupted();
      const auto turned = turned_.find(tensor.name);
      turned == turned_.end() ? Copy(tensor, copier) : Turn(tensor, turned->second, copier);
    }
    writer.Finish();
    if (weights_ > 0) report_.down_relative_rms_error = std::sqrt(squared_error_ / weights_);
    return std::move(report_);
  }

 private:
  DType TypeOf(const GgufTensorInfo& tensor) const {
    return chooser_ ? chooser_->TypeOf(tensor) : tensor.dtype;
  }
  // A row of what is turned holds a value for each row of the tensor.
  DType TurnedType(const GgufTensorInfo& tensor) const {
    const auto n = static_cast<int64_t>(tensor.rows());
    if (chooser_) return FittingType(chooser_->WantedOf(tensor.name), n);
    return DownTypeOf(tensor.dtype, n, {});
  }
  std::string NameOf(const ModelTensor& tensor) const {
    if (tensor.row->role != TensorRole::kDown) return tensor.name;
    return TensorOf(family_.tensors, TensorRole::kDownT, config_, tensor.layer).name;
  }

  void Tell(const std::string& name, const TensorView& from, DType to, double relative_rms_error,
            double max_abs_error) {
    report_.changes.push_back(
        {.name = name,
         .from = from.dtype,
         .to = to,
         .from_bytes = from.weight_bytes(),
         .to_bytes = static_cast<uint64_t>(from.rows * from.cols) / GetDTypeInfo(to).block_elems *
                     GetDTypeInfo(to).block_bytes,
         .relative_rms_error = relative_rms_error,
         .max_abs_error = max_abs_error});
  }

  void Copy(const GgufTensorInfo& tensor, TensorCopier& copier) {
    const DType to = TypeOf(tensor);
    if (to == tensor.dtype) {
      copier.Copy(tensor.name, gguf_.TensorData(tensor), tensor.n_bytes);
      return;
    }
    const TensorView view =
        DenseView(gguf_.TensorData(tensor), tensor.dtype, static_cast<int64_t>(tensor.rows()),
                  static_cast<int64_t>(tensor.cols()));
    const WeightError error =
        copier.Convert(tensor.name, RowsOf(gguf_.path(), tensor.name, view), to);
    Tell(tensor.name, view, to, error.relative_rms(), error.max_abs_error);
  }

  void Turn(const GgufTensorInfo& info, const ModelTensor& tensor, TensorCopier& copier) {
    const TensorView from = RequireWeights(gguf_, tensor);
    const DType to = TurnedType(info);
    const int64_t bytes = RowBytes(to, from.rows);
    const auto n_bytes = static_cast<uint64_t>(bytes * from.cols);
    if (buffer_.size() < n_bytes) buffer_ = AlignedBuffer(n_bytes, "packing");
    std::vector<int32_t> identity(static_cast<size_t>(from.cols));
    std::iota(identity.begin(), identity.end(), 0);
    const RequantReport rounded =
        TransposeDown(from, identity, to, buffer_.bytes(), bytes, options_.n_threads);
    if (rounded.requantised) {
      Tell(NameOf(tensor), from, to, rounded.relative_rms_error, rounded.max_abs_error);
    }
    if (rounded.requantised && GetDTypeInfo(from.dtype).block_elems > 1) {
      const auto weights = static_cast<double>(from.rows * from.cols);
      report_.requantised_down = true;
      weights_ += weights;
      squared_error_ += weights * rounded.relative_rms_error * rounded.relative_rms_error;
    }
    copier.Copy(NameOf(tensor), buffer_.bytes(), n_bytes);
  }

  const PackColumnsOptions& options_;
  GgufReader gguf_;
  const Family& family_;
  ModelConfig config_;
  std::optional<TypeChooser> chooser_;         // with a rule
  std::map<std::string, ModelTensor> turned_;  // by name in the source
  AlignedBuffer buffer_;
  PackReport report_;
  double weights_ = 0;
  double squared_error_ = 0;
};

}  // namespace

PackReport PackColumns(const std::string& input, const std::string& output,
                       const PackColumnsOptions& options) {
  return ColumnPacker(input, options).Pack(output);
}

}  // namespace thermocline
