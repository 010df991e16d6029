// The tensors of an imported model: which tensor of its files each comes from, and how its rows
// become those of the GGUF.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/convert/convert_rows.h"
#include "runtime/import/hf_config.h"
#include "runtime/model/hf_import.h"
#include "runtime/safetensors/safetensors.h"

namespace thermocline {

// How weights are stored with a scale for each block of them.
struct BlockScales {
  const SafetensorsTensor* tensor = nullptr;  // null: no scales
  int64_t block_rows = 1;
  int64_t block_cols = 1;
  int64_t n_across = 1;  // blocks side by side
  bool divides = false;  // weights are divided by their scale
};

struct ImportedTensor {
  std::string name;            // in the GGUF
  std::vector<uint64_t> dims;  // as a GGUF has them: the row length first
  HfTransform transform = HfTransform::kNone;

  // Where it comes from: a tensor, or numbers that the config gave.
  const SafetensorsTensor* source = nullptr;
  BlockScales scales;
  bool packed_ternary = false;                    // four weights to a byte (BitNet)
  std::vector<const SafetensorsTensor*> stacked;  // further ones, of the same shape, behind it
  std::vector<float> computed;

  bool is_matrix() const { return dims.size() > 1; }
  int64_t cols() const { return static_cast<int64_t>(dims[0]); }
  int64_t rows() const {
    int64_t n = 1;
    for (size_t i = 1; i < dims.size(); ++i) n *= static_cast<int64_t>(dims[i]);
    return n;
  }
  // Vectors and learned positions are always stored as F32; matrices get the type asked for.
  bool has_free_type() const;
  DType stored_dtype() const;     // the source's type, or the nearest one that a GGUF has
  std::string from_name() const;  // the source's type as messages show it
  // Whether the source's bytes are those of the GGUF, in its own type.
  bool is_copied_as(DType dtype) const;
};

// What the transforms count by.
struct HeadLayout {
  int64_t n_heads = 0;
  int64_t n_kv_heads = 0;
  int64_t head_dim = 0;
  int64_t rot_dim = 0;  // leading elements of a head that are rotated
};

// Returns the row of the source that row r of the result is.
int64_t SourceRow(HfTransform transform, const HeadLayout& heads, int64_t r);

// Returns the tensor's rows as f32. The model and the tensor must outlive them. A matrix that is
// transposed lies in memory meanwhile.
WeightRows RowsOfImported(const SafetensorsModel& model, const ImportedTensor& tensor,
                          const HeadLayout& heads, int n_threads);

// Finds every tensor of the family's table. Throws Error for a tensor that no row of the table
// names, for one that is missing, and for one of another shape than the config asks for.
std::vector<ImportedTensor> MapTensors(const HfImport& family, const HfConfig& config,
                                       const SafetensorsModel& model);

HeadLayout HeadLayoutOf(const HfImport& family, const HfConfig& config);

}  // namespace thermocline
