// Small Hugging Face models and adapters for tests: safetensors that are read whole, changed and
// written again.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "runtime/safetensors/safetensors.h"
#include "tests/support/temp_dir.h"

namespace thermocline {

struct TestMatrix {
  std::vector<uint64_t> shape;
  std::vector<float> values;

  static TestMatrix Random(uint64_t rows, uint64_t cols, std::mt19937* random) {
    TestMatrix matrix{{rows, cols}, std::vector<float>(rows * cols)};
    std::normal_distribution<float> normal(0, 1 / std::sqrt(static_cast<float>(cols)));
    for (float& value : matrix.values) value = normal(*random);
    return matrix;
  }
};
using TestTensors = std::map<std::string, TestMatrix>;

// Reads a model whose tensors are all F32.
inline TestTensors ReadTensors(const std::string& directory) {
  const SafetensorsModel model(directory);
  TestTensors tensors;
  for (const SafetensorsTensor& tensor : model.tensors()) {
    TestMatrix& matrix = tensors[tensor.name];
    matrix.shape = tensor.shape;
    matrix.values.resize(tensor.n_elements);
    std::memcpy(matrix.values.data(), model.DataOf(tensor), tensor.n_bytes);
  }
  return tensors;
}

inline void WriteTensors(const std::string& path, const TestTensors& tensors) {
  nlohmann::json header;
  std::string data;
  for (const auto& [name, matrix] : tensors) {
    const size_t begin = data.size();
    data.append(reinterpret_cast<const char*>(matrix.values.data()),
                matrix.values.size() * sizeof(float));
    header[name] = {{"dtype", "F32"}, {"shape", matrix.shape}};
    header[name]["data_offsets"] = {begin, data.size()};
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t n_bytes = text.size();
  std::string length(sizeof(n_bytes), '\0');
  std::memcpy(length.data(), &n_bytes, sizeof(n_bytes));
  WriteWholeFile(path, length + text + data);
}

// A PEFT adapter of a model's layers: of every matrix whose name has ".layers." or ".h.".
struct TestAdapter {
  static constexpr uint64_t kRank = 3;
  static constexpr double kAlpha = 2;
  TestTensors factors;  // by PEFT's names
  TestTensors merged;   // the model with the adapter in its weights
};

// transposed: the model's matrices are (d_in, d_out).
inline TestAdapter MakeAdapter(const TestTensors& model, bool transposed, uint32_t seed = 1) {
  std::mt19937 random(seed);
  TestAdapter adapter{{}, model};
  for (auto& [name, weights] : adapter.merged) {
    const bool in_layer =
        name.find(".layers.") != std::string::npos || name.find(".h.") != std::string::npos;
    if (!in_layer || weights.shape.size() != 2) continue;
    const uint64_t d_out = weights.shape[transposed ? 1 : 0];
    const uint64_t d_in = weights.shape[transposed ? 0 : 1];
    const TestMatrix a = TestMatrix::Random(TestAdapter::kRank, d_in, &random);
    const TestMatrix b = TestMatrix::Random(d_out, TestAdapter::kRank, &random);
    for (uint64_t o = 0; o < d_out; ++o) {
      for (uint64_t i = 0; i < d_in; ++i) {
        double sum = 0;
        for (uint64_t r = 0; r < TestAdapter::kRank; ++r) {
          sum += static_cast<double>(b.values[o * TestAdapter::kRank + r]) * a.values[r * d_in + i];
        }
        weights.values[transposed ? i * d_out + o : o * d_in + i] +=
            static_cast<float>(sum * TestAdapter::kAlpha / TestAdapter::kRank);
      }
    }
    const std::string module = "base_model.model." + name.substr(0, name.rfind('.'));
    adapter.factors[module + ".lora_A.weight"] = a;
    adapter.factors[module + ".lora_B.weight"] = b;
  }
  return adapter;
}

inline void WriteAdapter(const std::string& directory, const TestTensors& factors,
                         nlohmann::json changes = nlohmann::json::object()) {
  nlohmann::json config = {
      {"peft_type", "LORA"}, {"r", TestAdapter::kRank}, {"lora_alpha", TestAdapter::kAlpha},
      {"bias", "none"},      {"use_dora", false},       {"rank_pattern", nlohmann::json::object()}};
  config.update(changes);
  std::filesystem::create_directories(directory);
  WriteWholeFile(directory + "/adapter_config.json", config.dump());
  WriteTensors(directory + "/adapter_model.safetensors", factors);
}

}  // namespace thermocline
