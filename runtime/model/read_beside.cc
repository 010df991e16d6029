#include "runtime/model/read_beside.h"

#include <fmt/format.h>

#include <cmath>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

constexpr double kMaxGateCut = 40;  // standard deviations; f32 knows no larger quantile

}  // namespace

void ShareKv(const ConfigReader& keys, const std::vector<bool>& local, ModelConfig* config) {
  constexpr std::string_view kKey = "attention.shared_kv_layers";
  const int64_t n_shared = keys.GetIndex(kKey, config->n_layers);
  const int64_t n_own = config->n_layers - n_shared;
  for (int64_t l = n_own; l < config->n_layers; ++l) {
    int64_t from = n_own - 1;
    while (from >= 0 && local[static_cast<size_t>(from)] != local[static_cast<size_t>(l)]) --from;
    AttentionConfig& attention = config->layers[static_cast<size_t>(l)].attention;
    if (from < 0) {
      keys.Fail(kKey, "a layer of each kind, with a window and without, before those that share",
                fmt::format("{} of {} layers, and none before that is like layer {}", n_shared,
                            config->n_layers, l));
    }
    const int64_t n_kv_heads = config->layer(from).attention.n_kv_heads;
    if (n_kv_heads != attention.n_kv_heads) {
      keys.Fail(
          "attention.head_count_kv",
          fmt::format("{} in layer {}, as in layer {} whose keys it reads", n_kv_heads, l, from),
          std::to_string(attention.n_kv_heads));
    }
    attention.kv_layer = from;
  }
}

void ReadGateCuts(const ConfigReader& keys, ModelConfig* config) {
  constexpr std::string_view kKey = "activation_sparsity_scale";
  const std::vector<double> cuts = keys.FractionPerLayer(kKey);
  for (size_t l = 0; l < cuts.size(); ++l) {
    if (cuts[l] == -HUGE_VAL) continue;
    if (!(std::abs(cuts[l]) <= kMaxGateCut)) {
      keys.Fail(kKey,
                fmt::format("standard deviations from -{0} to {0}, or -inf for none, in layer {1}",
                            kMaxGateCut, l),
                fmt::format("{}", cuts[l]));
    }
    FfnConfig& ffn = config->layers[l].ffn;
    ffn.cuts_gates = true;
    ffn.gate_cut = static_cast<float>(cuts[l]);
  }
}

void ReadBeside(const GgufReader& gguf, const ConfigReader& keys, const Family& family,
                ModelConfig* config) {
  if (family.streams) {
    constexpr std::string_view kStreams = "altup.num_inputs";
    config->streams.n = keys.Require(kStreams, kMaxStreams);
    if (!config->streams.several()) keys.Fail(kStreams, fmt::format("2 to {}", kMaxStreams), "1");
    config->streams.active = keys.GetIndex("altup.active_idx", config->streams.n);
  }
  if (family.layer_embeddings) {
    config->layer_embd_dim = keys.Require("embedding_length_per_layer_input", kMaxDim);
  }
  if (!family.laurel) return;
  // No key says the rank.
  const std::string name = LayerTensorName(RowOf(family.tensors, TensorRole::kLaurelLeft).name, 0);
  const GgufTensorInfo* left = gguf.FindTensor(name);
  config->laurel_rank = left == nullptr ? 1 : static_cast<int64_t>(left->rows());
  if (config->laurel_rank <= static_cast<int64_t>(kMaxDim)) return;
  throw Error({.path = gguf.path(),
               .what = "tensor " + name,
               .expected = fmt::format("at most {} rows", kMaxDim),
               .found = std::to_string(config->laurel_rank)});
}

}  // namespace thermocline
