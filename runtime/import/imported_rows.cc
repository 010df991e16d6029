// From a source's rows, of any type and order, to those of the GGUF.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <memory>
#include <string_view>

#include "cpu_kernels/kernels.h"
#include "runtime/core/error.h"
#include "runtime/import/imported_tensor.h"
#include "runtime/threads/parallel_for.h"

namespace thermocline {
namespace {

constexpr int64_t kRowsToRead = 64;  // by one thread

// The values of an 8-bit float: a sign, then exponent and mantissa.
// E4M3 has no infinities: all ones is NaN. E5M2 is like F16 in this.
std::array<float, 256> MakeEightBitFloats(int mantissa_bits, bool has_infinity) {
  std::array<float, 256> values{};
  const int exponent_bits = 7 - mantissa_bits;
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int mantissas = 1 << mantissa_bits;
  for (int bits = 0; bits < 128; ++bits) {
    const int exponent = bits >> mantissa_bits;
    const int mantissa = bits & (mantissas - 1);
    const double fraction = static_cast<double>(mantissa) / mantissas;
    double value =
        exponent == 0 ? std::ldexp(fraction, 1 - bias) : std::ldexp(1 + fraction, exponent - bias);
    if (has_infinity && exponent == (1 << exponent_bits) - 1) {
      value = mantissa == 0 ? HUGE_VAL : std::nan("");
    }
    if (!has_infinity && bits == 127) value = std::nan("");
    values[static_cast<size_t>(bits)] = static_cast<float>(value);
    values[static_cast<size_t>(bits) + 128] = static_cast<float>(-value);
  }
  return values;
}

const std::array<float, 256>& EightBitFloats(SafetensorsType type) {
  static const std::array<float, 256> e4m3 = MakeEightBitFloats(3, false);
  static const std::array<float, 256> e5m2 = MakeEightBitFloats(2, true);
  return type == SafetensorsType::kF8E4M3 ? e4m3 : e5m2;
}

// Reads n elements behind each other, whatever float they are.
void ReadElements(const std::byte* data, SafetensorsType type, int64_t first, int64_t n,
                  float* out) {
  switch (type) {
    case SafetensorsType::kF8E4M3:
    case SafetensorsType::kF8E5M2: {
      const std::array<float, 256>& values = EightBitFloats(type);
      for (int64_t i = 0; i < n; ++i) out[i] = values[std::to_integer<size_t>(data[first + i])];
      return;
    }
    case SafetensorsType::kF64:
      for (int64_t i = 0; i < n; ++i) {
        double value;
        std::memcpy(&value, data + (first + i) * 8, sizeof(value));
        out[i] = static_cast<float>(value);
      }
      return;
    case SafetensorsType::kF32:
      std::memcpy(out, data + first * 4, static_cast<size_t>(n) * sizeof(float));
      return;
    default:
      break;
  }
  const DType dtype = *InfoOf(type).dtype;
  const std::byte* halves = data + first * 2;
  // A tensor may begin at any byte; the kernels want their types aligned.
  std::vector<uint16_t> aligned;
  if (reinterpret_cast<uintptr_t>(halves) % sizeof(uint16_t) != 0) {
    aligned.resize(static_cast<size_t>(n));
    std::memcpy(aligned.data(), halves, aligned.size() * sizeof(uint16_t));
    halves = reinterpret_cast<const std::byte*>(aligned.data());
  }
  CpuKernels().dequantize_f32(dtype, halves, 0, n, out);
}

// A source's rows, with their scales.
class SourceReader {
 public:
  SourceReader(const SafetensorsModel& model, const ImportedTensor& tensor)
      : data_(model.DataOf(*tensor.source)),
        type_(tensor.source->type),
        scales_(tensor.scales),
        packed_(tensor.packed_ternary),
        packed_rows_(packed_ ? static_cast<int64_t>(tensor.source->shape[0]) : 0) {
    if (scales_.tensor == nullptr) return;
    values_.resize(scales_.tensor->n_elements);
    ReadElements(model.DataOf(*scales_.tensor), scales_.tensor->type, 0,
                 static_cast<int64_t>(values_.size()), values_.data());
    for (float& value : values_) value = scales_.divides ? 1 / value : value;
  }

  void Read(int64_t r, int64_t n_cols, float* row) const {
    if (packed_) {
      const int shift = static_cast<int>(2 * (r / packed_rows_));
      const std::byte* bytes = data_ + r % packed_rows_ * n_cols;
      for (int64_t c = 0; c < n_cols; ++c) {
        row[c] = static_cast<float>((std::to_integer<int>(bytes[c]) >> shift & 3) - 1);
      }
    } else {
      ReadElements(data_, type_, r * n_cols, n_cols, row);
    }
    if (values_.empty()) return;
    const size_t first = static_cast<size_t>(r / scales_.block_rows * scales_.n_across);
    for (int64_t c = 0; c < n_cols; ++c) {
      row[c] *= values_[first + static_cast<size_t>(c / scales_.block_cols)];
    }
  }

 private:
  const std::byte* data_;
  SafetensorsType type_;
  BlockScales scales_;
  bool packed_;
  int64_t packed_rows_;
  std::vector<float> values_;
};

// The mean of absolute values, no less than 1e-5, by which BitNet scales a matrix.
float MeanMagnitude(const SourceReader& reader, int64_t n_rows, int64_t n_cols, int n_threads) {
  std::vector<double> sums(static_cast<size_t>(n_rows));
  ParallelFor(n_rows, kRowsToRead, n_threads, [&](int, int64_t first, int64_t last) {
    std::vector<float> row(static_cast<size_t>(n_cols));
    for (int64_t r = first; r < last; ++r) {
      reader.Read(r, n_cols, row.data());
      for (const float weight : row) sums[static_cast<size_t>(r)] += std::abs(weight);
    }
  });
  double total = 0;
  for (const double sum : sums) total += sum;
  return static_cast<float>(
      std::max(1e-5, total / (static_cast<double>(n_rows) * static_cast<double>(n_cols))));
}

// Returns rows of a matrix that lies in memory.
WeightRows RowsInMemory(const std::string& path, const ImportedTensor& tensor,
                        std::shared_ptr<std::vector<float>> values) {
  const int64_t n_cols = tensor.cols();
  const auto read = [values = std::move(values), n_cols](int64_t r, float* row) {
    std::memcpy(row, values->data() + r * n_cols, static_cast<size_t>(n_cols) * sizeof(float));
  };
  return {path, tensor.name, tensor.rows(), n_cols, read, {}};
}

// Reads (d_in, d_out) and turns it over.
WeightRows Transposed(const std::string& path, const ImportedTensor& tensor,
                      const SourceReader& reader, int n_threads) {
  const int64_t d_out = tensor.rows();
  const int64_t d_in = tensor.cols();
  auto values = std::make_shared<std::vector<float>>(static_cast<size_t>(d_out * d_in));
  ParallelFor(d_in, kRowsToRead, n_threads, [&](int, int64_t first, int64_t last) {
    std::vector<float> row(static_cast<size_t>(d_out));
    for (int64_t i = first; i < last; ++i) {
      reader.Read(i, d_out, row.data());
      for (int64_t o = 0; o < d_out; ++o) {
        (*values)[static_cast<size_t>(o * d_in + i)] = row[static_cast<size_t>(o)];
      }
    }
  });
  return RowsInMemory(path, tensor, std::move(values));
}

// Returns rows of several matrices behind each other.
WeightRows StackedRows(const SafetensorsModel& model, const ImportedTensor& tensor) {
  auto readers = std::make_shared<std::vector<SourceReader>>();
  readers->emplace_back(model, tensor);
  for (const SafetensorsTensor* source : tensor.stacked) {
    ImportedTensor part = tensor;
    part.source = source;
    readers->emplace_back(model, part);
  }
  const int64_t n_cols = tensor.cols();
  const auto n_rows = static_cast<int64_t>(tensor.dims[1]);
  const auto read = [readers, n_cols, n_rows](int64_t r, float* row) {
    (*readers)[static_cast<size_t>(r / n_rows)].Read(r % n_rows, n_cols, row);
  };
  return {model.PathOf(*tensor.source), tensor.name, tensor.rows(), n_cols, read, {}};
}

// Vectors are reordered element by element.
WeightRows VectorRows(const std::string& path, const ImportedTensor& tensor,
                      const HeadLayout& heads, const SourceReader& reader) {
  std::vector<float> source(static_cast<size_t>(tensor.cols()));
  reader.Read(0, tensor.cols(), source.data());
  auto values = std::make_shared<std::vector<float>>(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    const int64_t from = SourceRow(tensor.transform, heads, static_cast<int64_t>(i));
    (*values)[i] = source[static_cast<size_t>(from)];
    if (tensor.transform == HfTransform::kPlusOne) (*values)[i] += 1;
  }
  return RowsInMemory(path, tensor, std::move(values));
}

}  // namespace

int64_t SourceRow(HfTransform transform, const HeadLayout& heads, int64_t r) {
  const int64_t dim = heads.head_dim;
  const int64_t q_rows = heads.n_heads * dim;
  const int64_t kv_rows = heads.n_kv_heads * dim;
  switch (transform) {
    case HfTransform::kAdjacentQ:
    case HfTransform::kAdjacentK: {
      const int64_t in_head = r % dim;
      if (in_head >= heads.rot_dim) return r;
      return r - in_head + in_head % 2 * (heads.rot_dim / 2) + in_head / 2;
    }
    case HfTransform::kQkvByHead: {
      const int64_t part = r / q_rows;
      const int64_t head = r % q_rows / dim;
      return (head * 3 + part) * dim + r % dim;
    }
    case HfTransform::kQkvByKvHead: {
      const int64_t group = heads.n_heads / heads.n_kv_heads;
      if (r < q_rows) {
        const int64_t head = r / dim;
        return (head / group * (group + 2) + head % group) * dim + r % dim;
      }
      const int64_t part = (r - q_rows) / kv_rows;  // 0: keys, 1: values
      const int64_t kv_head = (r - q_rows) % kv_rows / dim;
      return (kv_head * (group + 2) + group + part) * dim + r % dim;
    }
    default:
      return r;
  }
}

WeightRows RowsOfImported(const SafetensorsModel& model, const ImportedTensor& tensor,
                          const HeadLayout& heads, int n_threads) {
  if (tensor.source == nullptr) {
    return RowsInMemory("", tensor, std::make_shared<std::vector<float>>(tensor.computed));
  }
  const std::string& path = model.PathOf(*tensor.source);
  const auto reader = std::make_shared<SourceReader>(model, tensor);
  if (!tensor.is_matrix()) return VectorRows(path, tensor, heads, *reader);
  const int64_t n_cols = tensor.cols();
  const HfTransform transform = tensor.transform;
  if (transform == HfTransform::kStack) return StackedRows(model, tensor);
  if (transform == HfTransform::kTranspose) return Transposed(path, tensor, *reader, n_threads);
  float scale = 1;
  if (transform == HfTransform::kTernary) {
    scale = MeanMagnitude(*reader, tensor.rows(), n_cols, n_threads);
  }
  const auto n_source_rows = static_cast<int64_t>(tensor.source->n_elements) / n_cols;
  const bool pads = transform == HfTransform::kPadVocab;
  const auto read = [=](int64_t r, float* row) {
    if (pads && r >= n_source_rows) {
      std::fill_n(row, n_cols, 0.0F);
      return;
    }
    reader->Read(SourceRow(transform, heads, r), n_cols, row);
    if (transform == HfTransform::kPlusOne) {
      for (int64_t c = 0; c < n_cols; ++c) row[c] += 1;
    }
    if (transform == HfTransform::kTernary) {
      const float inverse = 1 / scale;
      for (int64_t c = 0; c < n_cols; ++c) {
        row[c] = std::clamp(std::nearbyint(row[c] * inverse), -1.0F, 1.0F) / inverse;
      }
    }
  };
  return {path, tensor.name, tensor.rows(), n_cols, read, {}};
}

}  // namespace thermocline
