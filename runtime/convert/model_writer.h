// What `quantize` and `pack` share: tensors copied or converted into a new GGUF piece by piece, and
// what is reported of them.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "runtime/convert/convert_rows.h"
#include "runtime/convert/type_mix.h"
#include "runtime/core/progress.h"
#include "runtime/gguf/gguf_reader.h"
#include "runtime/gguf/gguf_writer.h"

namespace thermocline {

// One line of the report.
struct TensorChange {
  std::string name;
  DType from = DType::kF32;
  DType to = DType::kF32;
  uint64_t from_bytes = 0;
  uint64_t to_bytes = 0;
  double relative_rms_error = 0;
  double max_abs_error = 0;
  std::optional<DType> unfit = {};  // the type that was wanted, of which its rows hold no blocks
  std::string from_name = {};       // of a type that only other formats have
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
