// Which type each matrix of a quantised model gets: one type for all, or one of the mixes that
// people know by name (Q4_K_M, ...), which give more bits to the matrices whose errors count most.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "runtime/core/dtype.h"
#include "runtime/gguf/gguf_reader.h"

namespace thermocline {

struct TypeMix;

struct TypeRule {
  DType dtype = DType::kQ8_0;
  // Without `pure` the embedding table and the output head stay at Q8_0 or Q6_K when the rest gets
  // fewer bits (WeightTypeInfo::for_vocabulary): they decide which word comes out, and their errors
  // are not averaged away by what follows. With it a mix is its first type alone, too.
  bool pure = false;
  const TypeMix* mix = nullptr;  // null: dtype for all

  uint32_t file_type() const;  // general.file_type
};

// Reads the name of a mix or of a type that can be written, in any case. Returns nullopt for
// another word, and for types that are only read. Q6_K and Q2_K are mixes.
std::optional<TypeRule> ParseTypeRule(std::string_view name);
// Returns "Q6_K, Q5_K_M, ...", for messages.
std::string TypeMixNames();
// Returns a line for each mix: its name and what it is made of.
std::string TypeMixLines();

// Returns `wanted`, or the type that fits rows of n_cols instead (FittingType). Where no blocks
// fit, F32 becomes F16 and other types stay.
DType TypeForRows(DType from, uint64_t n_cols, DType wanted);

// Returns the number of weights in a run: rows of the tensor hold whole blocks in runs of this
// many. Rows of a packed up and down have two runs.
uint64_t RunLength(const GgufTensorInfo& tensor);

// Chooses the types for the tensors of one model.
class TypeChooser {
 public:
  TypeChooser(const GgufReader& gguf, const TypeRule& rule);
  // tensors: of a file that is yet to be written. `path` is for messages.
  TypeChooser(std::string path, std::span<const GgufTensorInfo> tensors, const TypeRule& rule);

  // Matrices of weights follow the rule; vectors (norms, biases) and what is no weight stay as they
  // are. Throws Error for a type that cannot be read.
  DType TypeOf(const GgufTensorInfo& tensor) const;
  // Returns what the rule says of a matrix, whatever its rows are.
  DType WantedOf(std::string_view name) const;
  // Returns what the rule says of a matrix that became `to` because rows of n_cols hold no whole
  // blocks of it, else nullopt.
  std::optional<DType> Unfit(std::string_view name, uint64_t n_cols, DType to) const;

 private:
  std::string path_;
  TypeRule rule_;
  int64_t n_layers_ = 0;
  bool shared_heads_ = false;  // four or more query heads to a KV head
  bool tied_ = false;          // the embedding table is the output head
};

}  // namespace thermocline
