// Which tensor of a Hugging Face model is which of the GGUF.
#include "runtime/import/imported_tensor.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <set>
#include <tuple>

#include "runtime/core/error.h"
#include "runtime/import/config_keys.h"
#include "runtime/import/quantized_source.h"

namespace thermocline {
namespace {

// What checkpoints have beside their weights.
constexpr std::string_view kNoWeights[] = {".rotary_emb.inv_freq", ".attn.bias",
                                           ".attn.masked_bias", ".attention.bias",
                                           ".attention.masked_bias"};
// Parts for other kinds of input.
constexpr std::string_view kOtherInputs[] = {
    "vision_tower.", "audio_tower.", "multi_modal_projector.", "embed_vision.", "embed_audio."};
// The same table once more (T5).
constexpr std::string_view kRepeated[] = {"encoder.embed_tokens.weight",
                                          "decoder.embed_tokens.weight"};

std::string Replaced(std::string_view pattern, int64_t layer) {
  const size_t hole = pattern.find("{}");
  if (hole == std::string_view::npos) return std::string(pattern);
  return fmt::format("{}{}{}", pattern.substr(0, hole), layer, pattern.substr(hole + 2));
}

bool IsInLayer(const HfTensor& row) { return row.gguf.find("{}") != std::string_view::npos; }

// A tensor's name with the layer taken out: "layers.{}.mlp.up_proj", "weight".
struct SplitName {
  std::string stem;
  std::string ending;  // "weight", "bias" or ""
  int64_t layer = 0;
};

SplitName Split(std::string name, std::string_view prefix) {
  constexpr std::string_view kLanguage = "language_model.";
  if (const size_t at = name.find(kLanguage); at != std::string::npos) {
    name.erase(at, kLanguage.size());
  }
  if (name.starts_with(prefix)) name.erase(0, prefix.size());
  SplitName split;
  const size_t dot = name.rfind('.');
  const std::string_view last =
      dot == std::string::npos ? std::string_view() : std::string_view(name).substr(dot + 1);
  if (last == "weight" || last == "bias") {
    split.ending = last;
    name.resize(dot);
  }
  for (size_t begin = 0; begin < name.size();) {
    const size_t end = std::min(name.find('.', begin), name.size());
    const auto parsed = std::from_chars(name.data() + begin, name.data() + end, split.layer);
    if (parsed.ec == std::errc() && parsed.ptr == name.data() + end && end > begin) {
      split.stem = fmt::format("{}{{}}{}", name.substr(0, begin), name.substr(end));
      return split;
    }
    begin = end + 1;
  }
  split.stem = std::move(name);
  return split;
}

// Dimensions of matrices by their names, as (rows, columns). A vector has `cols`, a bias `rows`.
enum class Dim : uint8_t { kAny, kVocab, kDModel, kQ, kKv, kQkv, kDFf, kUpOrBoth };
struct KnownShape {
  std::string_view name;  // behind "blk.N."
  Dim rows;
  Dim cols;
};
constexpr KnownShape kShapes[] = {
    {"token_embd", Dim::kVocab, Dim::kDModel},   {"output", Dim::kVocab, Dim::kDModel},
    {"output_norm", Dim::kDModel, Dim::kDModel}, {"attn_norm", Dim::kDModel, Dim::kDModel},
    {"ffn_norm", Dim::kDModel, Dim::kDModel},    {"attn_q", Dim::kQ, Dim::kDModel},
    {"attn_k", Dim::kKv, Dim::kDModel},          {"attn_v", Dim::kKv, Dim::kDModel},
    {"attn_qkv", Dim::kQkv, Dim::kDModel},       {"attn_output", Dim::kDModel, Dim::kQ},
    {"ffn_gate", Dim::kDFf, Dim::kDModel},       {"ffn_up", Dim::kUpOrBoth, Dim::kDModel},
    {"ffn_down", Dim::kDModel, Dim::kDFf},       {"position_embd", Dim::kAny, Dim::kDModel},
};

class TensorMapper {
 public:
  TensorMapper(const HfImport& family, const HfConfig& config, const SafetensorsModel& model)
      : family_(family),
        config_(config),
        model_(model),
        n_layers_(config.n_layers()),
        d_model_(config.d_model()),
        heads_(HeadLayoutOf(family, config)),
        quantised_(config, family),
        tied_(config.GetBool("tie_word_embeddings").value_or(family.tied)) {
    for (const HfKey& key : family.keys) {
      if (key.gguf == "feed_forward_length") ReadWidths(key.hf);
    }
    for (size_t i = 0; i < family.tensors.size(); ++i) {
      rows_.emplace(family.tensors[i].hf, static_cast<int64_t>(i));
      if (!IsInLayer(family.tensors[i])) continue;
      first_of_layer_ = std::min(first_of_layer_, static_cast<int64_t>(i));
    }
  }

  std::vector<ImportedTensor> Map() {
    for (const SafetensorsTensor& tensor : model_.tensors()) MapOne(tensor);
    RequireAll();
    std::vector<ImportedTensor> tensors;
    tensors.reserve(found_.size());
    for (auto& [place, tensor] : found_) tensors.push_back(std::move(tensor));
    return tensors;
  }

 private:
  // Reads the FFNs' widths, as MapConfig() does, which has checked them.
  void ReadWidths(std::string_view names) {
    const nlohmann::json* value = config_.Find(names);
    if (value == nullptr || !value->is_array()) {
      d_ff_ = {config_.GetInt(names, 1, kMaxHfDim).value_or(4 * d_model_)};
      return;
    }
    d_ff_.clear();
    const std::vector<double> widths = *config_.GetFloats(names);
    for (const double width : widths) {
      d_ff_.push_back(static_cast<int64_t>(width));
    }
  }

  // Tensors before the layers, those of each layer, those behind; in the table's order, the bias
  // behind its weight.
  struct Place {
    int64_t group;  // -1, the layer, n_layers
    int64_t row;
    bool is_bias;
    bool operator<(const Place& other) const {
      return std::tie(group, row, is_bias) < std::tie(other.group, other.row, other.is_bias);
    }
  };

  [[noreturn]] void Fail(const SafetensorsTensor& tensor, std::string expected, std::string found,
                         std::string hint = "") const {
    throw Error({.path = model_.PathOf(tensor),
                 .what = "tensor " + Printable(tensor.name),
                 .expected = std::move(expected),
                 .found = std::move(found),
                 .hint = std::move(hint)});
  }

  void MapOne(const SafetensorsTensor& tensor) {
    const std::string_view name = tensor.name;
    const auto ends = [&](std::string_view ending) { return name.ends_with(ending); };
    const auto is_part = [&](std::string_view part) { return name.find(part) != name.npos; };
    const bool repeated = std::ranges::find(kRepeated, name) != std::end(kRepeated);
    if (repeated && model_.Find("shared.weight") != nullptr) return;
    if (std::ranges::any_of(kNoWeights, ends) || std::ranges::any_of(kOtherInputs, is_part)) return;
    if (quantised_.IsScale(name)) return;
    const SplitName split = Split(tensor.name, family_.prefix);
    const auto row = rows_.find(split.stem);
    if (row == rows_.end() ||
        split.layer >= LayersOf(family_.tensors[static_cast<size_t>(row->second)])) {
      Fail(tensor, fmt::format("a tensor of {}, of {} layers", family_.architecture, n_layers_),
           "a name that this family does not have");
    }
    const HfTensor& entry = family_.tensors[static_cast<size_t>(row->second)];
    if (entry.gguf == "output" && tied_) return;  // the embedding table, once more
    const bool is_bias = split.ending == "bias";
    const bool of_decoder = entry.gguf.starts_with("dec.");
    const int64_t group = IsInLayer(entry) ? split.layer + (of_decoder ? kMaxHfLayers : 0)
                          : row->second < first_of_layer_ ? -1
                                                          : 2 * kMaxHfLayers;
    if (entry.transform == HfTransform::kStack && split.layer > 0) {
      return Stack({group, row->second, is_bias}, tensor, split.layer);
    }
    ImportedTensor imported = Make(tensor, entry, split);
    const auto [place, is_new] =
        found_.emplace(Place{group, row->second, is_bias}, std::move(imported));
    if (!is_new || !names_.insert(place->second.name).second) {
      Fail(tensor, "one tensor to be " + place->second.name, "two");
    }
  }

  // Layers that a row of the table has: the decoder's, for those of a decoder; the parts of a
  // stack.
  int64_t LayersOf(const HfTensor& entry) const {
    if (entry.transform == HfTransform::kStack) {
      return config_.GetInt("altup_num_inputs", 2, 64).value_or(4) - 1;
    }
    if (!entry.gguf.starts_with("dec.")) return n_layers_;
    return config_.GetInt("num_decoder_layers", 1, kMaxHfLayers).value_or(n_layers_);
  }

  // Puts NAME.n behind NAME.0, which headers list first.
  void Stack(const Place& place, const SafetensorsTensor& tensor, int64_t at) {
    const auto first = found_.find(place);
    if (first == found_.end() || first->second.source->shape != tensor.shape ||
        first->second.source->type != tensor.type ||
        static_cast<int64_t>(first->second.stacked.size()) != at - 1) {
      Fail(tensor, "parts of one shape and type, from 0 on", "another");
    }
    first->second.stacked.push_back(&tensor);
    first->second.dims[2] = static_cast<uint64_t>(at) + 1;
  }

  ImportedTensor Make(const SafetensorsTensor& source, const HfTensor& entry,
                      const SplitName& split) const {
    const bool is_bias = split.ending == "bias";
    ImportedTensor tensor;
    tensor.name = Replaced(entry.gguf, split.layer) + (is_bias ? ".bias" : ".weight");
    tensor.source = &source;
    tensor.transform = entry.transform;
    const bool of_matrix_only = tensor.transform == HfTransform::kPlusOne ||
                                tensor.transform == HfTransform::kTranspose ||
                                tensor.transform == HfTransform::kTernary;
    if (is_bias && of_matrix_only) tensor.transform = HfTransform::kNone;
    if (source.shape.empty() || source.shape.size() > 2) {
      Fail(source, "a vector or a matrix", ShapeText(source.shape));
    }
    tensor.dims.assign(source.shape.rbegin(), source.shape.rend());
    if (tensor.transform == HfTransform::kTranspose) std::ranges::reverse(tensor.dims);
    quantised_.Apply(model_, &tensor);
    CheckShape(tensor, entry, is_bias, split.layer);
    if (tensor.transform == HfTransform::kStack) tensor.dims.push_back(1);
    if (tensor.transform == HfTransform::kPadVocab && tensor.is_matrix()) {
      tensor.dims[1] = std::max(tensor.dims[1], static_cast<uint64_t>(Size(Dim::kVocab, 0)));
    }
    return tensor;
  }

  int64_t Size(Dim dim, int64_t layer) const {
    const int64_t q = heads_.n_heads * heads_.head_dim;
    const int64_t kv = heads_.n_kv_heads * heads_.head_dim;
    switch (dim) {
      case Dim::kVocab:
        return config_.RequireInt("vocab_size", 1, 1 << 24);
      case Dim::kDModel:
        return d_model_;
      case Dim::kQ:
        return q;
      case Dim::kKv:
        return kv;
      case Dim::kQkv:
        return q + 2 * kv;
      case Dim::kDFf:
      case Dim::kUpOrBoth:
        return d_ff_[std::min(static_cast<size_t>(layer), d_ff_.size() - 1)];
      case Dim::kAny:
        break;
    }
    return 0;
  }

  bool Fits(Dim dim, int64_t layer, uint64_t found, bool gate_and_up) const {
    const auto wanted = static_cast<uint64_t>(Size(dim, layer));
    if (dim == Dim::kUpOrBoth && gate_and_up) return found == 2 * wanted;
    return dim == Dim::kAny || found == wanted;
  }

  void CheckShape(const ImportedTensor& tensor, const HfTensor& entry, bool is_bias,
                  int64_t layer) const {
    std::string_view name = entry.gguf;
    if (name.starts_with("blk.{}.")) name.remove_prefix(7);
    const auto* known = std::ranges::find(kShapes, name, &KnownShape::name);
    if (known == std::end(kShapes)) return;
    const bool both = entry.hf.ends_with("gate_up_proj");
    const bool one_dim = is_bias || name.ends_with("norm");
    const Dim last = is_bias ? known->rows : known->cols;
    const bool fits = tensor.dims.size() == (one_dim ? 1U : 2U) &&
                      Fits(last, layer, tensor.dims[0], both) &&
                      (one_dim || Fits(known->rows, layer, tensor.dims[1], both));
    if (fits) return;
    const int64_t rows = (both ? 2 : 1) * Size(known->rows, layer);
    Fail(*tensor.source,
         "what the config says: " + (one_dim
                                         ? fmt::format("[{}]", Size(last, layer))
                                         : fmt::format("[{}, {}]", rows, Size(known->cols, layer))),
         ShapeText({tensor.dims.rbegin(), tensor.dims.rend()}));
  }

  void RequireAll() const {
    for (const HfTensor& entry : family_.tensors) {
      const bool head = entry.gguf == "output";
      // A config that says so has a head of its own.
      const bool own_head = head && !tied_ && config_.GetBool("tie_word_embeddings").has_value();
      if (!entry.required && !own_head) continue;
      for (int64_t l = 0; l < (IsInLayer(entry) ? LayersOf(entry) : 1); ++l) {
        if (names_.contains(Replaced(entry.gguf, l) + ".weight")) continue;
        throw Error({.path = config_.path(),
                     .what = fmt::format("tensor {}{}.weight is missing",
                                         head ? "" : family_.prefix, Replaced(entry.hf, l)),
                     .expected = fmt::format("all tensors of {} with {} layers",
                                             family_.architecture, n_layers_),
                     .hint = "download the whole model"});
      }
    }
  }

  const HfImport& family_;
  const HfConfig& config_;
  const SafetensorsModel& model_;
  int64_t n_layers_;
  int64_t d_model_;
  std::vector<int64_t> d_ff_ = {0};  // of each layer, or of all
  HeadLayout heads_;
  QuantizedSource quantised_;
  bool tied_;
  int64_t first_of_layer_ = INT64_MAX;
  std::map<std::string, int64_t, std::less<>> rows_;
  std::map<Place, ImportedTensor> found_;
  std::set<std::string> names_;
};

}  // namespace

bool ImportedTensor::has_free_type() const {
  return is_matrix() && name.ends_with(".weight") && !name.ends_with("_norm.weight") &&
         name != "position_embd.weight" && !name.ends_with("_coef.weight");
}

DType ImportedTensor::stored_dtype() const {
  if (!has_free_type() || source == nullptr) return DType::kF32;
  switch (source->type) {
    case SafetensorsType::kF16:
      return DType::kF16;
    case SafetensorsType::kF64:
    case SafetensorsType::kF32:
      return DType::kF32;
    default:
      return DType::kBF16;  // of 8 bits and scales, too
  }
}

std::string ImportedTensor::from_name() const {
  return source == nullptr ? "config" : std::string(source->info().name);
}

bool ImportedTensor::is_copied_as(DType dtype) const {
  return source != nullptr && transform == HfTransform::kNone && scales.tensor == nullptr &&
         !packed_ternary && source->info().dtype == dtype;
}

HeadLayout HeadLayoutOf(const HfImport& family, const HfConfig& config) {
  HeadLayout heads;
  heads.n_heads = config.n_heads();
  heads.n_kv_heads = config.n_kv_heads(family.kv_heads);
  heads.head_dim = config.head_dim(family.narrow_heads);
  if (heads.n_heads * heads.head_dim > kMaxHfDim) {
    config.Fail("head_dim", fmt::format("at most {} in all heads", kMaxHfDim),
                std::to_string(heads.n_heads * heads.head_dim));
  }
  heads.rot_dim = RotatedDims(family, config, heads.head_dim);
  return heads;
}

std::vector<ImportedTensor> MapTensors(const HfImport& family, const HfConfig& config,
                                       const SafetensorsModel& model) {
  return TensorMapper(family, config, model).Map();
}

}  // namespace thermocline
