// The fingerprint: a hash over the architecture, its hyperparameters, and per tensor the name,
// dims, dtype and three samples of its data. Keys and tensors are sorted by name, so that their
// order and the split into files do not count. Names, texts about the model and thermocline.* keys
// do not count either.
#include <algorithm>
#include <cstring>
#include <type_traits>

#include "runtime/core/fnv1a.h"
#include "runtime/gguf/gguf_reader.h"

namespace thermocline {
namespace {

constexpr uint64_t kSampleBytes = 256;

struct AddValue {
  Fnv1a& hash;
  void operator()(const std::string& text) const { hash.AddText(text); }
  template <typename T>
  void operator()(const std::vector<T>& elements) const {
    hash.AddNumber(uint64_t{elements.size()});
    for (const T& element : elements) (*this)(element);
  }
  void operator()(const GgufValue::Array& array) const { std::visit(*this, array); }
  template <typename T>
  std::enable_if_t<std::is_arithmetic_v<T>> operator()(T number) const {
    hash.AddNumber(number);
  }
};

void AddSamples(Fnv1a& hash, const std::byte* data, uint64_t n_bytes) {
  if (n_bytes <= 3 * kSampleBytes) {
    hash.Add(data, n_bytes);
    return;
  }
  hash.Add(data, kSampleBytes);
  hash.Add(data + (n_bytes / 2 - kSampleBytes / 2), kSampleBytes);
  hash.Add(data + (n_bytes - kSampleBytes), kSampleBytes);
}

}  // namespace

std::string GgufReader::fingerprint() const {
  return file_fingerprint_.empty() ? ComputeFingerprint() : file_fingerprint_;
}

std::string GgufReader::ComputeFingerprint() const {
  Fnv1a hash;
  const GgufValue* named = Find("general.architecture");
  const auto* architecture = named == nullptr ? nullptr : std::get_if<std::string>(&named->value);
  if (architecture != nullptr) {
    hash.AddText(*architecture);
    const std::string prefix = *architecture + ".";
    for (auto it = values_.lower_bound(prefix); it != values_.end(); ++it) {
      if (it->first.compare(0, prefix.size(), prefix) != 0) break;
      hash.AddText(it->first);
      hash.AddNumber(static_cast<uint32_t>(it->second.type));
      std::visit(AddValue{hash}, it->second.value);
    }
  }
  for (const auto& [name, index] : tensor_index_) {
    const GgufTensorInfo& tensor = tensors_[index];
    hash.AddText(name);
    hash.AddNumber(static_cast<uint32_t>(tensor.dtype));
    hash.AddNumber(uint64_t{tensor.dims.size()});
    for (const uint64_t dim : tensor.dims) hash.AddNumber(dim);
    AddSamples(hash, TensorData(tensor), tensor.n_bytes);
  }
  return hash.Text();
}

}  // namespace thermocline
