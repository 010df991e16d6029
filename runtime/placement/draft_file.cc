#include "runtime/placement/draft_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "cpu_kernels/kernels.h"
#include "runtime/core/error.h"
#include "runtime/gguf/gguf_writer.h"
#include "runtime/gguf/own_files.h"

namespace thermocline {
namespace {

constexpr const char* kDraftFileType = "thermocline-draft";
constexpr const char* kDraftDamaged = "the file is damaged: make the draft again";
constexpr uint64_t kMaxDraftWidth = 1U << 20;
constexpr uint64_t kMaxDraftTokens = uint64_t{1} << 53;
constexpr uint64_t kMaxChainTexts = 1U << 10;
constexpr uint64_t kMaxChainPositions = 1U << 12;
constexpr uint64_t kMaxChainPrompt = 1U << 20;
constexpr DraftRanking kRankings[] = {DraftRanking::kFrequency, DraftRanking::kMass,
                                      DraftRanking::kAcceptance};

std::string DraftTensor(int64_t layer, std::string_view ending) {
  return fmt::format("blk.{}.draft_{}", layer, ending);
}
std::string SliceTensor(int64_t layer, const char* matrix, size_t slice, const char* ending) {
  return fmt::format("blk.{}.draft_{}.{}.{}", layer, matrix, slice, ending);
}

[[noreturn]] void FailDraft(const GgufReader& gguf, const std::string& what,
                            const std::string& expected, const std::string& found) {
  throw Error({.path = gguf.path(),
               .what = what,
               .expected = expected,
               .found = found,
               .hint = kDraftDamaged});
}

void RequireFinite(const GgufReader& gguf, const std::string& name, std::span<const float> values,
                   int64_t first) {
  for (size_t i = 0; i < values.size(); ++i) {
    if (std::isfinite(values[i])) continue;
    FailDraft(gguf, fmt::format("tensor {}, element {}", name, first + static_cast<int64_t>(i)),
              "a finite number", fmt::format("{}", values[i]));
  }
}

DraftMatrix ReadDraftMatrix(const GgufReader& gguf, const std::string& name, int64_t rows,
                            int64_t cols) {
  DraftMatrix matrix;
  matrix.view = gguf.RequireMatrix(name, rows, cols);
  if (!GetDTypeInfo(matrix.view.dtype).computable) {
    throw Error({.path = gguf.path(),
                 .what = "tensor " + name,
                 .expected = "one of " + WeightDTypeNames(),
                 .found = std::string(DTypeName(matrix.view.dtype))});
  }
  std::vector<float> row(static_cast<size_t>(cols));
  for (int64_t r = 0; r < rows; ++r) {
    CpuKernels().dequantize_f32(matrix.view.dtype, matrix.view.row(r), 0, cols, row.data());
    RequireFinite(gguf, name, row, r * cols);
  }
  return matrix;
}

std::vector<float> ReadDraftVector(const GgufReader& gguf, const std::string& name, int64_t n) {
  std::vector<float> values = ReadVector<float>(gguf, name, DType::kF32, n);
  RequireFinite(gguf, name, values, 0);
  return values;
}

std::vector<float> ReadOptionalVector(const GgufReader& gguf, const std::string& name, int64_t n) {
  return gguf.FindTensor(name) == nullptr ? std::vector<float>() : ReadDraftVector(gguf, name, n);
}

std::vector<int32_t> ReadDraftOrder(const GgufReader& gguf, int64_t layer, int64_t d_ff) {
  const std::string name = DraftTensor(layer, "order");
  std::vector<int32_t> order = ReadVector<int32_t>(gguf, name, DType::kI32, d_ff);
  std::vector<bool> seen(order.size(), false);
  for (const int32_t id : order) {
    const bool valid = id >= 0 && static_cast<size_t>(id) < order.size();
    if (!valid || seen[static_cast<size_t>(id)]) {
      FailDraft(gguf, "tensor " + name, fmt::format("each neuron 0 to {} once", d_ff - 1),
                fmt::format("{}{}", id, valid ? " twice" : ""));
    }
    seen[static_cast<size_t>(id)] = true;
  }
  return order;
}

DraftSlice ReadSlice(const GgufReader& gguf, int64_t layer, size_t s, int64_t n, int64_t d_model) {
  DraftSlice slice;
  slice.n_neurons = n;
  if (n == 0) return slice;
  const auto matrix = [&](const char* name) {
    return ReadDraftMatrix(gguf, SliceTensor(layer, name, s, "weight"), n, d_model);
  };
  slice.gate = matrix("gate");
  if (gguf.FindTensor(SliceTensor(layer, "up", s, "weight")) != nullptr) slice.up = matrix("up");
  slice.down = matrix("down");
  slice.gate_bias = ReadOptionalVector(gguf, SliceTensor(layer, "gate", s, "bias"), n);
  slice.up_bias = ReadOptionalVector(gguf, SliceTensor(layer, "up", s, "bias"), n);
  return slice;
}

DraftLayer ReadDraftLayer(const GgufReader& gguf, const DraftFile& file, int64_t layer,
                          int64_t n_slices, bool bias) {
  DraftLayer out;
  out.order = ReadDraftOrder(gguf, layer, file.d_ff);
  const std::string name = DraftTensor(layer, "counts");
  const auto counts = ReadVector<int32_t>(gguf, name, DType::kI32, 1 + n_slices);
  int64_t left = file.d_ff;
  for (const int32_t count : counts) {
    if (count < 0 || count > left) {
      FailDraft(gguf, "tensor " + name, fmt::format("counts of at most {} in all", file.d_ff),
                std::to_string(count));
    }
    left -= count;
  }
  out.n_hot = counts.front();
  for (int64_t s = 0; s < n_slices; ++s) {
    out.slices.push_back(ReadSlice(gguf, layer, static_cast<size_t>(s),
                                   counts[static_cast<size_t>(1 + s)], file.d_model));
  }
  if (file.rank > 0) {
    out.left = ReadDraftMatrix(gguf, DraftTensor(layer, "left.weight"), file.rank, file.d_model);
    out.right = ReadDraftMatrix(gguf, DraftTensor(layer, "right.weight"), file.d_model, file.rank);
  }
  if (bias) out.bias = ReadDraftVector(gguf, DraftTensor(layer, "bias"), file.d_model);
  return out;
}

DraftRanking ReadRanking(const GgufReader& gguf) {
  const std::string name = gguf.RequireString("thermocline.draft.ranking");
  for (const DraftRanking ranking : kRankings) {
    if (name == DraftRankingName(ranking)) return ranking;
  }
  throw Error({.path = gguf.path(),
               .what = "key thermocline.draft.ranking",
               .expected = "frequency, mass or acceptance",
               .found = Printable(name)});
}

double ReadShare(const GgufReader& gguf, const char* key) {
  const double value = gguf.GetF64(key).value_or(-1);
  if (value >= 0 && value <= 1) return value;
  FailDraft(gguf, std::string("key ") + key, "a share from 0 to 1", fmt::format("{}", value));
}

int64_t ReadDraftCount(const GgufReader& gguf, const char* key, uint64_t least, uint64_t most) {
  return static_cast<int64_t>(gguf.RequireU64(key, least, most));
}

constexpr const char* kCertaintyTensor = "chains.draft_certainty";
constexpr const char* kAcceptedTensor = "chains.draft_accepted";
constexpr const char* kChainIdsTensor = "chains.draft_ids";

void ReadChainIds(const GgufReader& gguf, DraftChains* chains) {
  if (gguf.FindTensor(kChainIdsTensor) == nullptr) return;
  chains->n_prompt = ReadDraftCount(gguf, "thermocline.draft.chain_prompt", 1, kMaxChainPrompt);
  const int64_t n_ids = chains->n_prompt + chains->n_positions() + chains->depth;
  chains->ids = ReadVector<int32_t>(gguf, kChainIdsTensor, DType::kI32, chains->n_texts * n_ids);
  for (const int32_t id : chains->ids) {
    if (id >= 0) continue;
    FailDraft(gguf, std::string("tensor ") + kChainIdsTensor, "tokens, from 0 on",
              std::to_string(id));
  }
}

DraftChains ReadChains(const GgufReader& gguf) {
  DraftChains chains;
  if (gguf.FindTensor(kAcceptedTensor) == nullptr) return chains;
  chains.n_texts = ReadDraftCount(gguf, "thermocline.draft.chain_texts", 1, kMaxChainTexts);
  chains.depth = ReadDraftCount(gguf, "thermocline.draft.chain_depth", 1, uint64_t{kMaxChainDepth});
  const int64_t n_chains =
      chains.n_texts *
      ReadDraftCount(gguf, "thermocline.draft.chain_positions", 1, kMaxChainPositions);
  chains.certainty =
      ReadVector<float>(gguf, kCertaintyTensor, DType::kF32, n_chains * chains.depth);
  for (const float value : chains.certainty) {
    if (value >= 0 && value <= 1) continue;
    FailDraft(gguf, std::string("tensor ") + kCertaintyTensor, "shares from 0 to 1",
              fmt::format("{}", value));
  }
  chains.accepted = ReadVector<int32_t>(gguf, kAcceptedTensor, DType::kI32, n_chains);
  for (const int32_t value : chains.accepted) {
    if (value >= 0 && value <= chains.depth) continue;
    FailDraft(gguf, std::string("tensor ") + kAcceptedTensor,
              fmt::format("counts from 0 to {}", chains.depth), std::to_string(value));
  }
  ReadChainIds(gguf, &chains);
  return chains;
}

// Matrices that are no part of a layer's neurons: whatever the file has under other names. What
// they are of is checked against the model.
void ReadReplacements(const GgufReader& gguf, DraftFile* file) {
  for (const GgufTensorInfo& tensor : gguf.tensors()) {
    if (tensor.name.find(".draft_") != std::string::npos) continue;
    if (tensor.dims.size() != 2) {
      FailDraft(gguf, "tensor " + Printable(tensor.name), "a matrix",
                fmt::format("{} dimensions", tensor.dims.size()));
    }
    file->replacements.push_back(
        {tensor.name, ReadDraftMatrix(gguf, tensor.name, static_cast<int64_t>(tensor.dims[1]),
                                      static_cast<int64_t>(tensor.dims[0]))});
  }
}

// ---- writing ----

std::vector<uint64_t> DimsOf(const TensorView& view) {
  return {static_cast<uint64_t>(view.cols), static_cast<uint64_t>(view.rows)};
}

// Both walk the same tensors: first they are declared, then written.
class DraftTensors {
 public:
  DraftTensors(GgufWriter& writer, bool declares) : writer_(writer), declares_(declares) {}

  void Matrix(const std::string& name, const TensorView& w) {
    if (declares_) return writer_.DeclareTensor(name, w.dtype, DimsOf(w));
    writer_.BeginTensor(name);
    for (int64_t r = 0; r < w.rows; ++r) {
      writer_.Write(w.row(r), static_cast<uint64_t>(RowBytes(w.dtype, w.cols)));
    }
  }
  template <typename T>
  void Vector(const std::string& name, DType dtype, const std::vector<T>& values) {
    if (declares_) return writer_.DeclareTensor(name, dtype, {values.size()});
    writer_.WriteTensor(name, values.data(), values.size() * sizeof(T));
  }
  void Chains(const DraftChains& chains) {
    CHECK(std::ssize(chains.certainty) == std::ssize(chains.accepted) * chains.depth);
    Vector(kCertaintyTensor, DType::kF32, chains.certainty);
    Vector(kAcceptedTensor, DType::kI32, chains.accepted);
    if (!chains.has_ids()) return;
    CHECK(std::ssize(chains.ids) ==
          chains.n_texts * (chains.n_prompt + chains.n_positions() + chains.depth));
    Vector(kChainIdsTensor, DType::kI32, chains.ids);
  }
  void Layer(const DraftLayer& layer, int64_t l) {
    std::vector<int32_t> counts = {static_cast<int32_t>(layer.n_hot)};
    for (const DraftSlice& slice : layer.slices) {
      counts.push_back(static_cast<int32_t>(slice.n_neurons));
    }
    Vector(DraftTensor(l, "order"), DType::kI32, layer.order);
    Vector(DraftTensor(l, "counts"), DType::kI32, counts);
    for (size_t s = 0; s < layer.slices.size(); ++s) Slice(layer.slices[s], l, s);
    if (!layer.left.view.empty()) {
      Matrix(DraftTensor(l, "left.weight"), layer.left.view);
      Matrix(DraftTensor(l, "right.weight"), layer.right.view);
    }
    if (!layer.bias.empty()) Vector(DraftTensor(l, "bias"), DType::kF32, layer.bias);
  }

 private:
  void Slice(const DraftSlice& slice, int64_t l, size_t s) {
    if (slice.n_neurons == 0) return;
    Matrix(SliceTensor(l, "gate", s, "weight"), slice.gate.view);
    if (!slice.up.view.empty()) Matrix(SliceTensor(l, "up", s, "weight"), slice.up.view);
    Matrix(SliceTensor(l, "down", s, "weight"), slice.down.view);
    if (!slice.gate_bias.empty()) {
      Vector(SliceTensor(l, "gate", s, "bias"), DType::kF32, slice.gate_bias);
    }
    if (!slice.up_bias.empty()) Vector(SliceTensor(l, "up", s, "bias"), DType::kF32, slice.up_bias);
  }

  GgufWriter& writer_;
  bool declares_;
};

void WriteTensors(GgufWriter& writer, const DraftFile& file, bool declares) {
  DraftTensors tensors(writer, declares);
  for (size_t l = 0; l < file.layers.size(); ++l) {
    tensors.Layer(file.layers[l], static_cast<int64_t>(l));
  }
  for (const DraftReplacement& other : file.replacements) {
    tensors.Matrix(other.name, other.matrix.view);
  }
  if (!file.chains.empty()) tensors.Chains(file.chains);
}

}  // namespace

std::string_view DraftRankingName(DraftRanking ranking) {
  switch (ranking) {
    case DraftRanking::kFrequency:
      return "frequency";
    case DraftRanking::kMass:
      return "mass";
    case DraftRanking::kAcceptance:
      return "acceptance";
  }
  return "";
}

int64_t DraftLayer::n_left_out() const {
  int64_t n = static_cast<int64_t>(order.size()) - n_hot;
  for (const DraftSlice& slice : slices) n -= slice.n_neurons;
  return n;
}

uint64_t DraftLayer::own_bytes() const {
  uint64_t bytes = bias.size() * sizeof(float);
  const auto add = [&](const DraftMatrix& matrix) {
    if (!matrix.view.empty()) bytes += matrix.view.weight_bytes();
  };
  for (const DraftSlice& slice : slices) {
    for (const DraftMatrix* matrix : {&slice.gate, &slice.up, &slice.down}) add(*matrix);
    bytes += (slice.gate_bias.size() + slice.up_bias.size()) * sizeof(float);
  }
  add(left);
  add(right);
  return bytes;
}

uint64_t DraftFile::own_bytes() const {
  uint64_t bytes = 0;
  for (const DraftLayer& layer : layers) bytes += layer.own_bytes();
  for (const DraftReplacement& other : replacements) bytes += other.matrix.view.weight_bytes();
  return bytes;
}

int64_t DraftFile::n_hot() const {
  int64_t n = 0;
  for (const DraftLayer& layer : layers) n += layer.n_hot;
  return n;
}

void WriteDraft(const std::string& path, const DraftFile& file) {
  CHECK(!file.layers.empty());
  GgufWriter writer(path);
  const auto count = [](int64_t n) { return GgufValue::u64(static_cast<uint64_t>(n)); };
  writer.Set("general.architecture", GgufValue::string(kDraftFileType));
  writer.Set("thermocline.model_fingerprint", GgufValue::string(file.model_fingerprint));
  writer.Set("thermocline.n_layers", GgufValue::u64(file.layers.size()));
  writer.Set("thermocline.d_model", count(file.d_model));
  writer.Set("thermocline.d_ff", count(file.d_ff));
  writer.Set("thermocline.draft.slices", GgufValue::u64(file.layers.front().slices.size()));
  writer.Set("thermocline.draft.rank", count(file.rank));
  writer.Set("thermocline.draft.bias", GgufValue::boolean(file.has_bias()));
  writer.Set("thermocline.draft.ranking",
             GgufValue::string(std::string(DraftRankingName(file.ranking))));
  writer.Set("thermocline.draft.calibration_tokens", count(file.calibration_tokens));
  writer.Set("thermocline.draft.heldout_tokens", count(file.heldout_tokens));
  writer.Set("thermocline.draft.corpus_hash", GgufValue::string(file.corpus_hash));
  writer.Set("thermocline.draft.acceptance", GgufValue::f64(file.acceptance));
  writer.Set("thermocline.draft.agreement", GgufValue::f64(file.agreement));
  if (!file.chains.empty()) {
    writer.Set("thermocline.draft.chain_texts", count(file.chains.n_texts));
    writer.Set("thermocline.draft.chain_positions", count(file.chains.n_positions()));
    writer.Set("thermocline.draft.chain_depth", count(file.chains.depth));
    if (file.chains.has_ids()) {
      writer.Set("thermocline.draft.chain_prompt", count(file.chains.n_prompt));
    }
  }
  WriteTensors(writer, file, /*declares=*/true);
  WriteTensors(writer, file, /*declares=*/false);
  writer.Finish();
}

DraftFile ReadDraft(const std::string& path) {
  return ReadDraft(std::make_shared<const GgufReader>(path));
}

DraftFile ReadDraft(std::shared_ptr<const GgufReader> mapping) {
  const GgufReader& gguf = *mapping;
  RequireFileType(gguf, kDraftFileType, "draft", {Job::kProfile});
  DraftFile file;
  file.path = gguf.path();
  file.model_fingerprint = gguf.RequireString("thermocline.model_fingerprint");
  const int64_t n_layers = ReadDraftCount(gguf, "thermocline.n_layers", 1, kMaxFileLayers);
  file.d_model = ReadDraftCount(gguf, "thermocline.d_model", 1, kMaxDraftWidth);
  file.d_ff = ReadDraftCount(gguf, "thermocline.d_ff", 1, kMaxFileNeurons);
  const int64_t n_slices =
      ReadDraftCount(gguf, "thermocline.draft.slices", 0, uint64_t{kMaxDraftSlices});
  file.rank = ReadDraftCount(gguf, "thermocline.draft.rank", 0,
                             static_cast<uint64_t>(std::min(file.d_model, file.d_ff)));
  const bool bias = gguf.GetBool("thermocline.draft.bias").value_or(false);
  file.ranking = ReadRanking(gguf);
  file.calibration_tokens =
      ReadDraftCount(gguf, "thermocline.draft.calibration_tokens", 0, kMaxDraftTokens);
  file.heldout_tokens =
      ReadDraftCount(gguf, "thermocline.draft.heldout_tokens", 0, kMaxDraftTokens);
  file.corpus_hash = gguf.RequireString("thermocline.draft.corpus_hash");
  file.acceptance = ReadShare(gguf, "thermocline.draft.acceptance");
  file.agreement = ReadShare(gguf, "thermocline.draft.agreement");
  file.chains = ReadChains(gguf);
  for (int64_t layer = 0; layer < n_layers; ++layer) {
    file.layers.push_back(ReadDraftLayer(gguf, file, layer, n_slices, bias));
  }
  ReadReplacements(gguf, &file);
  file.mapping = std::move(mapping);
  return file;
}

namespace {

void CheckChainIds(const DraftFile& file, const ModelConfig& config) {
  for (const int32_t id : file.chains.ids) {
    if (id < config.vocab_size) continue;
    throw Error({.path = file.path,
                 .what = std::string("tensor ") + kChainIdsTensor,
                 .expected = fmt::format("tokens from 0 to {}", config.vocab_size - 1),
                 .found = std::to_string(id),
                 .hint = "make the draft again",
                 .jobs = {Job::kProfile}});
  }
}

// A replacement is of a matrix that every token reads: of attention, or the head.
void CheckReplacements(const DraftFile& file, const GgufReader& gguf, const Family& family,
                       const ModelConfig& config) {
  for (const DraftReplacement& other : file.replacements) {
    const ModelTensor* found = nullptr;
    std::vector<ModelTensor> all;
    ForEachTensor(gguf, family.tensors, config,
                  [&](const ModelTensor& tensor, const GgufTensorInfo* info) {
                    const bool replaceable = tensor.row->matrix != nullptr ||
                                             tensor.row->role == TensorRole::kOutput ||
                                             tensor.row->role == TensorRole::kTokenEmbd;
                    if (info != nullptr && replaceable) all.push_back(tensor);
                  });
    for (const ModelTensor& tensor : all) {
      if (tensor.name == other.name) found = &tensor;
    }
    if (found == nullptr) {
      throw Error({.path = file.path,
                   .what = "tensor " + Printable(other.name),
                   .expected = "a matrix of the model, of attention or the head",
                   .hint = "make the draft again",
                   .jobs = {Job::kProfile}});
    }
    const TensorView& view = other.matrix.view;
    if (view.rows == found->rows && view.cols == found->cols) continue;
    throw Error({.path = file.path,
                 .what = "the shape of tensor " + other.name,
                 .expected = fmt::format("{} x {}", found->rows, found->cols),
                 .found = fmt::format("{} x {}", view.rows, view.cols),
                 .hint = "make the draft again",
                 .jobs = {Job::kProfile}});
  }
}

}  // namespace

void CheckDraftFits(const DraftFile& file, const GgufReader& gguf, const Family& family,
                    const ModelConfig& config) {
  const std::vector<std::string> fingerprints = ModelFingerprints(gguf);
  const std::string& own = file.model_fingerprint;
  if (std::find(fingerprints.begin(), fingerprints.end(), own) == fingerprints.end()) {
    throw Error({.path = file.path,
                 .what = "the draft was made for another model",
                 .expected = fmt::format("fingerprint {} ({})", fingerprints.front(), gguf.path()),
                 .found = Printable(own),
                 .hint = "make one for this model",
                 .jobs = {Job::kProfile}});
  }
  RequireEqualFfns(config, file.path, "a draft");
  const auto n_layers = static_cast<int64_t>(file.layers.size());
  if (n_layers != config.n_layers || file.d_ff != config.d_ff || file.d_model != config.d_model) {
    throw Error({.path = file.path,
                 .what = "the draft's shape does not fit the model",
                 .expected = fmt::format("{} layers, d_model {}, d_ff {}", config.n_layers,
                                         config.d_model, config.d_ff),
                 .found = fmt::format("{} layers, d_model {}, d_ff {}", n_layers, file.d_model,
                                      file.d_ff)});
  }
  for (int64_t l = 0; l < n_layers; ++l) {
    const bool gated = config.layer(l).ffn.kind == FfnKind::kGated;
    for (const DraftSlice& slice : file.layers[static_cast<size_t>(l)].slices) {
      if (slice.n_neurons == 0 || slice.up.view.empty() != gated) continue;
      throw Error({.path = file.path,
                   .what = fmt::format("the stand-ins of layer {}", l),
                   .expected = gated ? "up projections" : "no up projections",
                   .found = gated ? "none" : "some",
                   .hint = "make the draft again",
                   .jobs = {Job::kProfile}});
    }
  }
  CheckChainIds(file, config);
  CheckReplacements(file, gguf, family, config);
}

Placement PlacementOfDraft(const DraftFile& file, bool on_one_tier) {
  Placement placement;
  placement.path = file.path;
  placement.model_fingerprint = file.model_fingerprint;
  for (const DraftLayer& layer : file.layers) {
    const int64_t n_fast = on_one_tier ? file.d_ff : layer.n_hot;
    placement.layers.push_back({layer.order, {n_fast, file.d_ff - n_fast, 0}});
  }
  return placement;
}

void CheckDraftPlacement(const DraftFile& file, const Placement& placement) {
  for (size_t l = 0; l < file.layers.size(); ++l) {
    const DraftLayer& layer = file.layers[l];
    const LayerPlacement& placed = placement.layers[l];
    if (placed.n_on[kVram] < layer.n_hot) {
      throw Error(
          {.path = placement.path,
           .what = fmt::format("the placement leaves hot neurons of layer {} that the draft "
                               "computes to the slow tier",
                               l),
           .expected = fmt::format("at least {} in vram", layer.n_hot),
           .found = std::to_string(placed.n_on[kVram]),
           .hint = "leave the placement out: the draft brings one, or make a draft for it"});
    }
    const auto n_hot = static_cast<ptrdiff_t>(layer.n_hot);
    std::vector<int32_t> wanted(layer.order.begin(), layer.order.begin() + n_hot);
    std::vector<int32_t> found(placed.neuron_order.begin(), placed.neuron_order.begin() + n_hot);
    std::ranges::sort(wanted);
    std::ranges::sort(found);
    if (wanted == found) continue;
    throw Error({.path = placement.path,
                 .what = fmt::format("the placement's hottest neurons of layer {}", l),
                 .expected = fmt::format("the {} that the draft {} computes", n_hot, file.path),
                 .found = "others",
                 .hint = "leave the placement out: the draft brings one, or make a draft for it"});
  }
}

}  // namespace thermocline
