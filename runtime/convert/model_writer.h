// What `quantize` and `pack` share: which type a tensor gets, and tensors copied or converted into
// a new GGUF piece by piece.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "runtime/convert/convert_rows.h"
#include "runtime/core/progress.h"
#include "runtime/gguf/gguf_reader.h"
#include "runtime/gguf/gguf_writer.h"

namespace thermocline {

struct TypeRule {
  DType dtype = DType::kQ8_0;
  // Without `pure` the embedding table and the output head stay at Q8_0 when the rest gets four
  // bits (WeightTypeInfo::for_vocabulary): they decide which word comes out, and their errors are
  // not averaged away by what follows.
  bool pure = false;
};

// Returns the type for a tensor of a model. Matrices of weights follow the rule; vectors (norms,
// biases) and what is no weight stay as they are. Throws Error for a type that cannot be read.
DType ChooseType(const std::string& path, const GgufTensorInfo& tensor, const TypeRule& rule);
// Returns `wanted`, unless rows of n_cols do not hold whole blocks of it: then WeightTypeInfo's
// type for such rows (Q8_0 for Q6_K). Where no blocks fit, F32 becomes F16 and other types stay.
DType TypeForRows(DType from, uint64_t n_cols, DType wanted);

// One line of the report.
struct TensorChange {
  std::string name;
  DType from = DType::kF32;
  DType to = DType::kF32;
  uint64_t from_bytes = 0;
  uint64_t to_bytes = 0;
  double relative_rms_error = 0;
  double max_abs_error = 0;
};

// Copies all keys but those of a split set. With a rule, general.file_type and quantization_version
// are as it says.
void CopyMetadata(const GgufReader& gguf, const std::optional<TypeRule>& rule, GgufWriter& writer);

// Throws Error when `output` is one of the model's own files.
void CheckOutputIsNotInput(const GgufReader& gguf, const std::string& output);

// Writes the tensors of a new model in their order. Each call reports progress and honours Ctrl-C.
class TensorCopier {
 public:
  // total_bytes counts all that will be written, for the progress.
  TensorCopier(GgufWriter& writer, uint64_t total_bytes, int n_threads, std::string label,
               ProgressFn progress);

  void Copy(const std::string& name, const std::byte* data, uint64_t n_bytes);
  // Copies the rows of a view in another order, as they are.
  void CopyRows(const std::string& name, const TensorView& view, const std::vector<int32_t>& order);
  // Converts all rows to `dtype`, a few MiB at a time.
  WeightError Convert(const std::string& name, const WeightRows& rows, DType dtype);
  int n_threads() const { return n_threads_; }

 private:
  void Write(const void* data, uint64_t n_bytes);

  GgufWriter& writer_;
  uint64_t total_bytes_;
  uint64_t done_bytes_ = 0;
  std::string label_;
  ProgressFn progress_;
  int n_threads_;
};

}  // namespace thermocline
