#include "profiler/activations/input_importance.h"

#include <fmt/format.h>

#include <algorithm>

#include "profiler/activations/profile_file.h"
#include "runtime/core/error.h"
#include "runtime/model/families.h"
#include "runtime/placement/placement.h"

namespace thermocline {
namespace {

// Returns the sums that a matrix's columns meet, or null.
const std::vector<double>* SquaresOf(TensorRole role, const LayerInputSquares& squares) {
  switch (role) {
    case TensorRole::kWq:
    case TensorRole::kWk:
    case TensorRole::kWv:
      return &squares.attention;
    case TensorRole::kWo:
      return &squares.attended;
    case TensorRole::kGate:
    case TensorRole::kUp:
    case TensorRole::kUpDown:
      return &squares.ffn;
    case TensorRole::kDown:
      return &squares.down;
    default:
      return nullptr;
  }
}

// Returns the means of the columns' squares. Down's half of a packed row meets one input, that of
// its neuron, so its columns count alike: as much as the others in the mean.
std::vector<float> MeansOf(const std::vector<double>& squares, int64_t n_tokens, int64_t cols) {
  std::vector<float> means;
  double sum = 0;
  for (const double square : squares) {
    means.push_back(static_cast<float>(square / static_cast<double>(n_tokens)));
    sum += static_cast<double>(means.back());
  }
  means.resize(static_cast<size_t>(cols),
               static_cast<float>(sum / static_cast<double>(squares.size())));
  return means;
}

}  // namespace

std::map<std::string, std::vector<float>> ReadImportance(const std::string& profile_path,
                                                         const std::string& model_path) {
  const GgufReader gguf = OpenModelFile(model_path);
  const Family& family = FindFamily(gguf);
  const ModelConfig config = ReadModelConfig(gguf, family);
  const ProfileStats stats = ReadProfile(profile_path);
  CheckProfileFits(stats, config, model_path, ModelFingerprints(gguf));
  if (stats.input_squares.empty()) {
    throw Error({.path = profile_path,
                 .what = "the profile does not say what the matrices read",
                 .expected = "tensors blk.N.input_squares",
                 .found = "none",
                 .hint = "profile the model again",
                 .jobs = {Job::kProfile}});
  }
  std::map<std::string, std::vector<float>> importance;
  ForEachTensor(
      gguf, family.tensors, config, [&](const ModelTensor& tensor, const GgufTensorInfo* info) {
        if (tensor.layer == kNoLayer || info == nullptr) return;
        const auto layer = static_cast<size_t>(tensor.layer);
        const auto* squares = SquaresOf(tensor.row->role, stats.input_squares[layer]);
        if (squares == nullptr) return;
        const bool joined = tensor.row->role == TensorRole::kUpDown;
        const int64_t inputs = joined ? tensor.cols / 2 : tensor.cols;
        if (static_cast<int64_t>(squares->size()) != inputs) {
          throw Error({.path = profile_path,
                       .what = fmt::format("the inputs of {}", tensor.name),
                       .expected = std::to_string(inputs),
                       .found = std::to_string(squares->size()),
                       .hint = "the file is damaged: profile the model again",
                       .jobs = {Job::kProfile}});
        }
        importance[tensor.name] = MeansOf(*squares, stats.calibration.n_tokens, tensor.cols);
      });
  return importance;
}

}  // namespace thermocline
