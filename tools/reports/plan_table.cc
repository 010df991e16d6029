#include "tools/reports/plan_table.h"

#include <fmt/format.h>

#include "runtime/core/size_text.h"
#include "tools/reports/messages.h"

namespace thermocline {
namespace {

// The total over both tiers by what it is for. Without a placement there is one column.
std::string TierTable(const MemoryPlan& plan) {
  const bool two_columns = plan.two_tiers || plan.host_table_bytes > 0;
  std::string text;
  const auto row = [&](const char* what, uint64_t fast, uint64_t slow) {
    text += fmt::format("{:<24}{:>14}", what, FormatBytes(fast));
    if (two_columns) text += fmt::format("{:>14}", FormatBytes(slow));
    text += "\n";
  };
  text += fmt::format("{:<24}{:>14}", "", two_columns ? "fast tier" : "memory");
  text += two_columns ? fmt::format("{:>14}\n", "slow tier") : "\n";
  row("embedding, output head", plan.embedding_bytes, plan.host_table_bytes);
  row("attention, norms", plan.attention_bytes(), 0);
  row("FFN neurons", plan.hot_bytes(), plan.cold_bytes());
  if (plan.predictor_bytes() > 0) {
    row("predictor", plan.fast_predictor_bytes(), plan.slow_predictor_bytes());
  }
  row("KV cache", plan.kv_bytes, 0);
  row("scratch", plan.fast_scratch_bytes, plan.slow_scratch_bytes);
  row("total", plan.fast_total_bytes(), plan.slow_total_bytes());
  if (two_columns) {
    text += fmt::format("fast tier: {}; slow tier: {}\n", plan.fast_name, plan.slow_name);
  }
  return text;
}

std::string LayerTable(const MemoryPlan& plan) {
  std::string text = fmt::format("{:>5}{:>14}{:>14}{:>14}", "layer", "attention",
                                 plan.two_tiers ? "hot neurons" : "neurons",
                                 plan.two_tiers ? "hot bytes" : "FFN bytes");
  text += plan.two_tiers ? fmt::format("{:>14}{:>14}\n", "cold neurons", "cold bytes") : "\n";
  for (size_t l = 0; l < plan.layers.size(); ++l) {
    const MemoryPlan::Layer& layer = plan.layers[l];
    text += fmt::format("{:>5}{:>14}{:>14}{:>14}", l, FormatBytes(layer.attention_bytes),
                        layer.hot_neurons, FormatBytes(layer.hot_bytes));
    text += plan.two_tiers
                ? fmt::format("{:>14}{:>14}\n", layer.cold_neurons, FormatBytes(layer.cold_bytes))
                : "\n";
  }
  return text;
}

}  // namespace

std::string BaseName(const std::string& path) { return path.substr(path.find_last_of('/') + 1); }

std::string MemoryPlanTable(const OpenedModel& model) {
  const MemoryPlan plan = model.Plan();
  const ModelConfig& c = model.config();
  std::string text = fmt::format(
      "{}: {}, {} layers, d_model {}, d_ff {}, {}, vocabulary {}\n"
      "mode {}, context {} tokens, batch {} tokens, {} threads\n\n",
      BaseName(model.gguf().path()), c.architecture, c.n_layers, c.d_model, c.d_ff,
      ActivationName(c.activation), c.vocab_size, SparseModeName(model.mode()), plan.context_tokens,
      plan.batch_tokens, model.n_threads());
  if (model.predictor() != nullptr) {
    text += fmt::format("predictor: {}\n\n", model.predictor()->Description());
  }
  const std::string gpu_note = NoteText(model.gpu_note());
  if (!gpu_note.empty()) text += gpu_note + "\n\n";
  if (model.placement() != nullptr && model.placement()->imported) {
    text += fmt::format("{}\n\n", kImportedPlacementNote);
  }
  return text + TierTable(plan) + "\n" + LayerTable(plan);
}

nlohmann::ordered_json MemoryPlanJson(const OpenedModel& model) {
  using Object = nlohmann::ordered_json;
  const MemoryPlan plan = model.Plan();
  Object layers = Object::array();
  for (const MemoryPlan::Layer& layer : plan.layers) {
    layers.push_back({{"attention_bytes", layer.attention_bytes},
                      {"hot_neurons", layer.hot_neurons},
                      {"hot_bytes", layer.hot_bytes},
                      {"cold_neurons", layer.cold_neurons},
                      {"cold_bytes", layer.cold_bytes},
                      {"predictor_bytes", layer.predictor_bytes}});
  }
  return {{"model", model.gguf().path()},
          {"mode", SparseModeName(model.mode())},
          {"n_threads", model.n_threads()},
          {"context_tokens", plan.context_tokens},
          {"batch_tokens", plan.batch_tokens},
          {"two_tiers", plan.two_tiers},
          {"fast_name", plan.fast_name},
          {"slow_name",
           plan.two_tiers || plan.host_table_bytes > 0 ? Object(plan.slow_name) : Object(nullptr)},
          {"embedding_bytes", plan.embedding_bytes},
          {"attention_bytes", plan.attention_bytes()},
          {"hot_bytes", plan.hot_bytes()},
          {"cold_bytes", plan.cold_bytes()},
          {"host_table_bytes", plan.host_table_bytes},
          {"predictor_bytes", plan.predictor_bytes()},
          {"kv_bytes", plan.kv_bytes},
          {"fast_scratch_bytes", plan.fast_scratch_bytes},
          {"slow_scratch_bytes", plan.slow_scratch_bytes},
          {"fast_total_bytes", plan.fast_total_bytes()},
          {"slow_total_bytes", plan.slow_total_bytes()},
          {"layers", layers}};
}

}  // namespace thermocline
