// What the readers of our own files (profiles, placements) share: which kind a file says it is, how
// large a model they may describe, and vectors of one type.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "runtime/gguf/gguf_reader.h"

namespace thermocline {

inline constexpr uint64_t kMaxFileLayers = 4096;
inline constexpr uint64_t kMaxFileNeurons = 1U << 20;  // neurons of a layer

// Throws Error unless general.architecture is `type`. For the message, `kind`: "placement"; and
// `makers`: the jobs that make such a file.
void RequireFileType(const GgufReader& gguf, const std::string& type, const std::string& kind,
                     std::vector<Job> makers);

// Throws Error unless `view`, the tensor `name`, has the type wanted.
void RequireDType(const GgufReader& gguf, const std::string& name, const TensorView& view,
                  DType wanted);

// Returns the n elements of a tensor; T is what `dtype` stores. Throws Error when it is absent or
// has another shape or type.
template <typename T>
std::vector<T> ReadVector(const GgufReader& gguf, const std::string& name, DType dtype, int64_t n) {
  const TensorView view = gguf.RequireMatrix(name, 1, n);
  RequireDType(gguf, name, view, dtype);
  std::vector<T> values(static_cast<size_t>(n));
  std::memcpy(values.data(), view.data, values.size() * sizeof(T));
  return values;
}

}  // namespace thermocline
