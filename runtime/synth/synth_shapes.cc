// Which shapes a synthetic model may have.
#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "runtime/core/error.h"
#include "runtime/model/families.h"
#include "runtime/synth/synth.h"

namespace thermocline {
namespace {

struct Shape {
  std::string_view name;
  int64_t n_layers, d_model, d_ff, n_heads, n_kv_heads, vocab_size, max_seq_len;
};

// Published dimensions of models people know.
constexpr Shape kShapes[] = {
    {"random-1b", 16, 2048, 8192, 16, 16, 32000, 4096},
    {"tinyllama-1.1b", 22, 2048, 5632, 32, 4, 32000, 2048},
    {"llama-7b", 32, 4096, 11008, 32, 32, 32000, 4096},
    {"llama-13b", 40, 5120, 13824, 40, 40, 32000, 4096},
    {"llama-30b", 60, 6656, 17920, 52, 52, 32000, 2048},
    {"llama-70b", 80, 8192, 28672, 64, 8, 32000, 4096},
    {"llama-3-8b", 32, 4096, 14336, 32, 8, 128256, 8192},
    {"llama-3-70b", 80, 8192, 28672, 64, 8, 128256, 8192},
    {"mistral-7b", 32, 4096, 14336, 32, 8, 32000, 32768},
    {"opt-1.3b", 24, 2048, 8192, 32, 32, 50272, 2048},
    {"opt-6.7b", 32, 4096, 16384, 32, 32, 50272, 2048},
    {"opt-13b", 40, 5120, 20480, 40, 40, 50272, 2048},
    {"opt-30b", 48, 7168, 28672, 56, 56, 50272, 2048},
    {"opt-66b", 64, 9216, 36864, 72, 72, 50272, 2048},
    {"falcon-7b", 32, 4544, 18176, 71, 1, 65024, 2048},
    {"falcon-40b", 60, 8192, 32768, 128, 8, 65024, 2048},
};

}  // namespace

std::string ShapeNames() {
  std::string names;
  for (const Shape& shape : kShapes) names += (names.empty() ? "" : ", ") + std::string(shape.name);
  return names;
}

void ApplyShape(std::string_view like, SynthOptions* options) {
  for (const Shape& shape : kShapes) {
    if (shape.name != like) continue;
    options->n_layers = shape.n_layers;
    options->d_model = shape.d_model;
    options->d_ff = shape.d_ff;
    options->n_heads = shape.n_heads;
    options->n_kv_heads = shape.n_kv_heads;
    options->vocab_size = shape.vocab_size;
    options->max_seq_len = shape.max_seq_len;
    return;
  }
  throw Error({.what = std::string(SettingName(Setting::kShape)),
               .expected = ShapeNames(),
               .found = Printable(std::string(like)),
               .settings = {{Setting::kShape}}});
}

void CheckSynthOptions(const SynthOptions& o) {
  const auto require = [](bool holds, Setting setting, const std::string& expected, int64_t found) {
    if (holds) return;
    throw Error({.what = std::string(SettingName(setting)),
                 .expected = expected,
                 .found = std::to_string(found),
                 .settings = {{setting}}});
  };
  constexpr int64_t kMaxDim = 1 << 20;
  require(o.n_layers >= 1 && o.n_layers <= 4096, Setting::kLayers, "1 to 4096", o.n_layers);
  // Rows are whole blocks of the type.
  const int64_t unit = std::max<int64_t>(32, GetDTypeInfo(o.dtype).block_elems);
  const std::string multiple = fmt::format("a multiple of {}", unit);
  require(o.d_model >= 32 && o.d_model % unit == 0 && o.d_model <= kMaxDim, Setting::kDModel,
          multiple, o.d_model);
  require(o.d_ff >= 32 && o.d_ff % unit == 0 && o.d_ff <= kMaxDim, Setting::kDFf, multiple, o.d_ff);
  require(o.n_heads >= 1 && o.d_model % (2 * o.n_heads) == 0, Setting::kHeads,
          fmt::format("a divisor of d_model {} with even heads", o.d_model), o.n_heads);
  require(o.n_kv_heads >= 1 && o.n_heads % o.n_kv_heads == 0, Setting::kKvHeads,
          fmt::format("a divisor of {} heads", o.n_heads), o.n_kv_heads);
  require(o.vocab_size >= 260 && o.vocab_size <= (1 << 24), Setting::kVocabSize, "260 to 16777216",
          o.vocab_size);
  require(o.max_seq_len >= 1 && o.max_seq_len <= (1 << 26), Setting::kMaxSeqLen, "1 to 67108864",
          o.max_seq_len);
  const int64_t most_rank = std::min({o.d_model, o.d_ff, kMaxGateRank});
  require(o.gate_rank >= 0 && o.gate_rank % 32 == 0 && o.gate_rank <= most_rank, Setting::kGateRank,
          fmt::format("a multiple of 32, at most {}", most_rank), o.gate_rank);
  if (o.activity && o.activation == Activation::kSilu) {
    throw Error({.what = std::string(SettingName(Setting::kDensity)),
                 .expected = "an activation that has true zeros (relu, reglu, relu_sqr)",
                 .found = std::string(ActivationName(o.activation)),
                 .hint = "take the activation relu",
                 .settings = {{Setting::kDensity}, {Setting::kActivation, "relu"}}});
  }
}

}  // namespace thermocline
