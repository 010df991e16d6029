#include "runtime/convert/type_mix.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <iterator>

#include "runtime/core/error.h"

namespace thermocline {

// In which layers a rule holds.
enum class MixLayers : uint8_t {
  kAll,
  kFirstTwo,
  kFirstFour,
  kFirstSixteenth,
  kFirstEighth,
  kEveryThird,       // the first and the last eighth, and every third between
  kIfHeadsAreShared  // all, where four or more query heads share a KV head
};

struct MixRule {
  std::string_view tensor;  // the last part of its name: "attn_v"; empty: no rule
  MixLayers layers = MixLayers::kAll;
  DType dtype = DType::kF32;
};

struct TypeMix {
  std::string_view name;
  DType base;
  uint32_t file_type;
  std::string_view about;
  MixRule rules[6] = {};  // the first that holds counts; else the base
};

namespace {

constexpr MixRule kHead = {"output", MixLayers::kAll, DType::kQ6_K};

// What the names stand for in the files that people share. Rows that are there only for experts or
// for other families of models are left out.
constexpr TypeMix kMixes[] = {
    {.name = "Q6_K", .base = DType::kQ6_K, .file_type = 18, .about = "Q6_K for all", .rules = {}},
    {.name = "Q5_K_M",
     .base = DType::kQ5_K,
     .file_type = 17,
     .about = "Q5_K; Q6_K for the head, and in half of the layers for attention's values and down",
     .rules = {kHead,
               {"attn_v", MixLayers::kEveryThird, DType::kQ6_K},
               {"ffn_down", MixLayers::kEveryThird, DType::kQ6_K}}},
    {.name = "Q5_K_S",
     .base = DType::kQ5_K,
     .file_type = 16,
     .about = "Q5_K; Q6_K for the head",
     .rules = {kHead}},
    {.name = "Q4_K_M",
     .base = DType::kQ4_K,
     .file_type = 15,
     .about = "Q4_K; Q6_K for the head, and in half of the layers for attention's values and down",
     .rules = {kHead,
               {"attn_v", MixLayers::kEveryThird, DType::kQ6_K},
               {"ffn_down", MixLayers::kEveryThird, DType::kQ6_K}}},
    {.name = "Q4_K_S",
     .base = DType::kQ4_K,
     .file_type = 14,
     .about = "Q4_K; Q6_K for the head, Q5_K for attention's values and down in the first layers",
     .rules = {kHead,
               {"attn_v", MixLayers::kFirstFour, DType::kQ5_K},
               {"ffn_down", MixLayers::kFirstEighth, DType::kQ5_K}}},
    {.name = "Q3_K_M",
     .base = DType::kQ3_K,
     .file_type = 12,
     .about = "Q3_K; Q6_K for the head, Q4_K and Q5_K for attention's values and output and down",
     .rules = {kHead,
               {"attn_v", MixLayers::kFirstTwo, DType::kQ5_K},
               {"attn_v", MixLayers::kAll, DType::kQ4_K},
               {"attn_output", MixLayers::kAll, DType::kQ4_K},
               {"ffn_down", MixLayers::kFirstSixteenth, DType::kQ5_K},
               {"ffn_down", MixLayers::kAll, DType::kQ4_K}}},
    {.name = "Q2_K",
     .base = DType::kQ2_K,
     .file_type = 10,
     .about = "Q2_K; Q6_K for the head, Q3_K for attention's values and output and down",
     .rules = {kHead,
               {"attn_v", MixLayers::kIfHeadsAreShared, DType::kQ4_K},
               {"attn_v", MixLayers::kAll, DType::kQ3_K},
               {"attn_output", MixLayers::kAll, DType::kQ3_K},
               {"ffn_down", MixLayers::kAll, DType::kQ3_K}}},
};

// A matrix's place: "blk.3.attn_v.weight" is attn_v of layer 3, "output.weight" output of none.
struct MatrixName {
  int64_t layer = -1;
  std::string_view tensor;
};

MatrixName SplitName(std::string_view name) {
  MatrixName split;
  if (name.starts_with("enc.blk.") || name.starts_with("dec.blk.")) name.remove_prefix(4);
  if (name.starts_with("blk.")) {
    const char* const end = name.data() + name.size();
    const auto parsed = std::from_chars(name.data() + 4, end, split.layer);
    if (parsed.ec == std::errc() && parsed.ptr != end && *parsed.ptr == '.') {
      name.remove_prefix(static_cast<size_t>(parsed.ptr + 1 - name.data()));
    } else {
      split.layer = -1;
    }
  }
  if (name.ends_with(".weight")) name.remove_suffix(7);
  // Down with a row per neuron counts as down. Joined with up, both take its type.
  if (name == "ffn_up_down" || name == "ffn_down_t") name = "ffn_down";
  split.tensor = name;
  return split;
}

bool HoldsIn(MixLayers layers, int64_t layer, int64_t n_layers) {
  const int64_t eighth = n_layers / 8;
  switch (layers) {
    case MixLayers::kFirstTwo:
      return layer < 2;
    case MixLayers::kFirstFour:
      return layer < 4;
    case MixLayers::kFirstSixteenth:
      return layer < n_layers / 16;
    case MixLayers::kFirstEighth:
      return layer < eighth;
    case MixLayers::kEveryThird:
      return layer < eighth || layer >= 7 * n_layers / 8 || (layer - eighth) % 3 == 2;
    case MixLayers::kAll:
    case MixLayers::kIfHeadsAreShared:
      break;
  }
  return true;
}

}  // namespace

uint32_t TypeRule::file_type() const {
  return mix != nullptr && !pure ? mix->file_type : GetWeightTypeInfo(dtype).file_type;
}

std::optional<TypeRule> ParseTypeRule(std::string_view name) {
  std::string upper(name);
  std::transform(upper.begin(), upper.end(), upper.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  for (const TypeMix& mix : kMixes) {
    if (mix.name == upper) return TypeRule{.dtype = mix.base, .mix = &mix};
  }
  const std::optional<DType> dtype = ParseWeightDType(upper);
  if (!dtype || !GetWeightTypeInfo(*dtype).written) return std::nullopt;
  return TypeRule{.dtype = *dtype};
}

std::string TypeMixNames() {
  std::string names;
  for (const TypeMix& mix : kMixes) {
    if (!names.empty()) names += ", ";
    names += mix.name;
  }
  return names;
}

std::string TypeMixLines() {
  std::string lines;
  for (const TypeMix& mix : kMixes) lines += fmt::format("  {:<7} {}\n", mix.name, mix.about);
  return lines;
}

DType TypeForRows(DType from, uint64_t n_cols, DType wanted) {
  const DType fitting = FittingType(wanted, static_cast<int64_t>(n_cols));
  const bool in_blocks = fitting == wanted || GetDTypeInfo(fitting).block_elems > 1;
  return in_blocks || from == DType::kF32 ? fitting : from;
}

uint64_t RunLength(const GgufTensorInfo& tensor) {
  const bool up_and_down = std::string_view(tensor.name).ends_with(".ffn_up_down.weight");
  return up_and_down ? tensor.cols() / 2 : tensor.cols();
}

TypeChooser::TypeChooser(const GgufReader& gguf, const TypeRule& rule)
    : TypeChooser(gguf.path(), gguf.tensors(), rule) {}

TypeChooser::TypeChooser(std::string path, std::span<const GgufTensorInfo> tensors,
                         const TypeRule& rule)
    : path_(std::move(path)), rule_(rule), tied_(true) {
  const GgufTensorInfo* q = nullptr;
  const GgufTensorInfo* v = nullptr;
  for (const GgufTensorInfo& tensor : tensors) {
    n_layers_ = std::max(n_layers_, SplitName(tensor.name).layer + 1);
    if (tensor.name == "output.weight") tied_ = false;
    if (tensor.name == "blk.0.attn_q.weight") q = &tensor;
    if (tensor.name == "blk.0.attn_v.weight") v = &tensor;
  }
  shared_heads_ = q != nullptr && v != nullptr && q->rows() >= 4 * v->rows();
}

DType TypeChooser::WantedOf(std::string_view name) const {
  if (rule_.pure) return rule_.dtype;
  const bool of_vocabulary = name == "token_embd.weight" || name == "output.weight";
  if (rule_.mix == nullptr) {
    return of_vocabulary ? GetWeightTypeInfo(rule_.dtype).for_vocabulary : rule_.dtype;
  }
  MatrixName matrix = SplitName(name);
  if (matrix.tensor == "token_embd" && tied_) matrix.tensor = "output";
  for (const MixRule& rule : rule_.mix->rules) {
    if (rule.tensor.empty() || rule.tensor != matrix.tensor) continue;
    if (rule.layers == MixLayers::kIfHeadsAreShared && !shared_heads_) continue;
    if (HoldsIn(rule.layers, matrix.layer, n_layers_)) return rule.dtype;
  }
  return rule_.mix->base;
}

std::optional<DType> TypeChooser::Unfit(std::string_view name, uint64_t n_cols, DType to) const {
  const DType wanted = WantedOf(name);
  const bool fits = to == wanted || n_cols % GetDTypeInfo(wanted).block_elems == 0;
  return fits ? std::nullopt : std::optional<DType>(wanted);
}

DType TypeChooser::TypeOf(const GgufTensorInfo& tensor) const {
  const DTypeInfo& from = GetDTypeInfo(tensor.dtype);
  const std::string_view name = tensor.name;
  const bool is_matrix = tensor.dims.size() >= 2 && name.ends_with(".weight");
  // Tables of a few coefficients are no matrices either, and a relative bias is added as it is.
  if (!is_matrix || name.ends_with("_coef.weight") || name.ends_with("attn_rel_b.weight")) {
    return tensor.dtype;
  }
  if (!from.computable) {
    if (from.block_elems == 1) return tensor.dtype;
    throw Error({.path = path_,
                 .what = "tensor " + Printable(tensor.name) + " has a type that cannot be read",
                 .expected = WeightDTypeNames(),
                 .found = std::string(from.name),
                 .hint = "start from the model's F16, BF16 or Q8_0 file"});
  }
  return TypeForRows(tensor.dtype, RunLength(tensor), WantedOf(tensor.name));
}

}  // namespace thermocline
