#include "runtime/convert/quantize_model.h"

#include "runtime/core/error.h"
#include "runtime/model/families.h"
#include "runtime/placement/powerinfer_file.h"

namespace thermocline {
namespace {

TensorView ViewOf(const GgufReader& gguf, const GgufTensorInfo& tensor) {
  return DenseView(gguf.TensorData(tensor), tensor.dtype, static_cast<int64_t>(tensor.rows()),
                   static_cast<int64_t>(tensor.cols()));
}

TensorChange PlanChange(const GgufTensorInfo& tensor, const TypeChooser& chooser) {
  TensorChange change{.name = tensor.name, .from = tensor.dtype};
  change.to = chooser.TypeOf(tensor);
  change.from_bytes = tensor.n_bytes;
  change.to_bytes = change.to == change.from
                        ? tensor.n_bytes
                        : tensor.rows() * static_cast<uint64_t>(RowBytes(
                                              change.to, static_cast<int64_t>(tensor.cols())));
  if (change.to != change.from) {
    change.unfit = chooser.Unfit(tensor.name, RunLength(tensor), change.to);
  }
  return change;
}

}  // namespace

std::vector<TensorChange> QuantizeModel(const std::string& input, const std::string& output,
                                        const QuantizeOptions& options) {
  const GgufReader gguf = OpenModelFile(input);
  CheckOutputIsNotInput(gguf, output);
  if (IsPowerInferPlacement(gguf)) {
    throw Error({.path = input, .what = "a placement, not a model", .hint = "name a model file"});
  }
  if (gguf.tensors().empty()) {
    throw Error({.path = input, .what = "the file holds no tensors", .hint = "name a model file"});
  }
  const TypeChooser chooser(gguf, options.rule);
  std::vector<TensorChange> changes;
  uint64_t total_bytes = 0;
  for (const GgufTensorInfo& tensor : gguf.tensors()) {
    changes.push_back(PlanChange(tensor, chooser));
    total_bytes += changes.back().to_bytes;
  }
  GgufWriter writer(output, gguf.alignment());
  CopyMetadata(gguf, options.rule, writer);
  for (size_t i = 0; i < changes.size(); ++i) {
    writer.DeclareTensor(changes[i].name, changes[i].to, gguf.tensors()[i].dims);
  }
  TensorCopier copier(writer, total_bytes, options.n_threads, "quantising (MiB)", options.progress);
  for (size_t i = 0; i < changes.size(); ++i) {
    TensorChange& change = changes[i];
    const GgufTensorInfo& tensor = gguf.tensors()[i];
    if (change.from == change.to) {
      copier.Copy(change.name, gguf.TensorData(tensor), tensor.n_bytes);
      continue;
    }
    WeightRows rows = RowsOf(input, change.name, ViewOf(gguf, tensor));
    const auto known = options.importance.find(change.name);
    if (known != options.importance.end()) rows.importance = known->second;
    const WeightError error = copier.Convert(change.name, rows, change.to);
    change.relative_rms_error = error.relative_rms();
    change.max_abs_error = error.max_abs_error;
  }
  writer.Finish();
  return changes;
}

}  // namespace thermocline
