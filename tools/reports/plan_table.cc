#include "tools/reports/plan_table.h"

#include <fmt/format.h>

#include "runtime/core/available_memory.h"
#include "runtime/core/size_text.h"
#include "runtime/engine/memory_fit.h"
#include "tools/reports/messages.h"

namespace thermocline {
namespace {

std::string KvName(const MemoryPlan& plan, const MemoryPlan::Kv& kv) {
  if (plan.kv.size() == 1 && kv.window == 0) return "KV cache";
  if (kv.window == 0) return "KV cache, all positions";
  return fmt::format("KV cache, window {}", kv.window);
}

// Returns the total over the two tiers by what it is for. Without a placement there is one column.
std::string TierTable(const MemoryPlan& plan) {
  const bool two_columns = plan.placed || plan.host_table_bytes > 0;
  std::string text;
  const auto row = [&](const char* what, uint64_t fast, uint64_t slow) {
    text += fmt::format("{:<24}{:>14}", what, FormatBytes(fast));
    if (two_columns) text += fmt::format("{:>14}", FormatBytes(slow));
    text += "\n";
  };
  text += fmt::format("{:<24}{:>14}", "", two_columns ? "fast tier" : "memory");
  text += two_columns ? fmt::format("{:>14}\n", "slow tier") : "\n";
  row("embedding, output head", plan.embedding_bytes, plan.host_table_bytes);
  row("attention, norms", plan.attention_bytes(0), plan.attention_bytes(1));
  row("FFN neurons", plan.neuron_bytes(0), plan.neuron_bytes(1));
  if (plan.predictor_bytes(0) + plan.predictor_bytes(1) > 0) {
    row("predictor", plan.predictor_bytes(0), plan.predictor_bytes(1));
  }
  if (plan.tiers[0].adapter_bytes + plan.tiers[1].adapter_bytes > 0) {
    row("adapters", plan.tiers[0].adapter_bytes, plan.tiers[1].adapter_bytes);
  }
  for (const MemoryPlan::Kv& kv : plan.kv) {
    row(KvName(plan, kv).c_str(), kv.tier == 0 ? kv.bytes : 0, kv.tier == 0 ? 0 : kv.bytes);
  }
  row("scratch", plan.tiers[0].scratch_bytes, plan.tiers[1].scratch_bytes);
  row("total", plan.total_bytes(0), plan.total_bytes(1));
  if (two_columns) {
    text += fmt::format("fast tier: {}; slow tier: {}\n", plan.tiers[0].name, plan.tiers[1].name);
  }
  return text;
}

// Returns a line that sets the plan against the memory there is.
std::string AvailableLine(const OpenedModel& model) {
  const auto available = QueryAvailableMemory();
  if (!available) return "";
  const uint64_t planned = PlannedHostBytes(model);
  return fmt::format("of the host's memory: {} planned, {} available ({}){}\n",
                     FormatBytes(planned), FormatBytes(available->n_bytes), available->limited_by,
                     planned > available->n_bytes ? ": a run is refused" : "");
}

// Returns a line for each type of down projections that become another.
std::string DownLines(const MemoryPlan& plan) {
  std::string text;
  for (const MemoryPlan::Down& down : plan.downs) {
    text += fmt::format(
        "down projections of {} layer{}: {} in the file ({}), {} with a row per neuron ({})\n",
        down.n_layers, down.n_layers == 1 ? "" : "s", DTypeName(down.in_file),
        FormatBytes(down.file_bytes), DTypeName(down.stored), FormatBytes(down.bytes));
  }
  return text.empty() ? "" : text + "\n";
}

// Returns the bytes, and where they lie where that is not the fast tier.
std::string AttentionText(const MemoryPlan::Layer& layer) {
  if (layer.attention_tier == 0) return FormatBytes(layer.attention_bytes);
  return FormatBytes(layer.slow_attention_bytes) + " s";
}

std::string LayerTable(const MemoryPlan& plan) {
  std::string text =
      fmt::format("{:>5}{:>14}{:>14}{:>14}", "layer", "attention",
                  plan.placed ? "hot neurons" : "neurons", plan.placed ? "hot bytes" : "FFN bytes");
  text += plan.placed ? fmt::format("{:>14}{:>14}\n", "cold neurons", "cold bytes") : "\n";
  for (size_t l = 0; l < plan.layers.size(); ++l) {
    const MemoryPlan::Layer& layer = plan.layers[l];
    text += fmt::format("{:>5}{:>14}{:>14}{:>14}", l, AttentionText(layer),
                        layer.slices[0].n_neurons, FormatBytes(layer.slices[0].bytes));
    text += plan.placed ? fmt::format("{:>14}{:>14}\n", layer.slices[1].n_neurons,
                                      FormatBytes(layer.slices[1].bytes))
                        : "\n";
  }
  if (plan.attention_bytes(1) > 0) text += "s: attention and its KV cache on the slow tier\n";
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
  return text + DownLines(plan) + TierTable(plan) + AvailableLine(model) + "\n" + LayerTable(plan);
}

nlohmann::json KvClassesJson(const MemoryPlan& plan) {
  nlohmann::json classes = nlohmann::json::array();
  for (const MemoryPlan::Kv& kv : plan.kv) {
    classes.push_back({{"tier", kv.tier},
                       {"window", kv.window},
                       {"n_layers", kv.n_layers},
                       {"n_tokens", kv.n_tokens},
                       {"bytes", kv.bytes}});
  }
  return classes;
}

nlohmann::ordered_json MemoryPlanJson(const OpenedModel& model) {
  using Object = nlohmann::ordered_json;
  const MemoryPlan plan = model.Plan();
  Object layers = Object::array();
  for (const MemoryPlan::Layer& layer : plan.layers) {
    layers.push_back(
        {{"attention_bytes", layer.attention_bytes},
         {"slow_attention_bytes", layer.slow_attention_bytes},
         {"hot_neurons", layer.slices[0].n_neurons},
         {"hot_bytes", layer.slices[0].bytes},
         {"cold_neurons", layer.slices[1].n_neurons},
         {"cold_bytes", layer.slices[1].bytes},
         {"predictor_bytes", layer.slices[0].predictor_bytes + layer.slices[1].predictor_bytes}});
  }
  const auto available = QueryAvailableMemory();
  Object downs = Object::array();
  for (const MemoryPlan::Down& down : plan.downs) {
    downs.push_back({{"in_file", DTypeName(down.in_file)},
                     {"stored", DTypeName(down.stored)},
                     {"n_layers", down.n_layers},
                     {"file_bytes", down.file_bytes},
                     {"bytes", down.bytes}});
  }
  return {{"model", model.gguf().path()},
          {"mode", SparseModeName(model.mode())},
          {"n_threads", model.n_threads()},
          {"context_tokens", plan.context_tokens},
          {"batch_tokens", plan.batch_tokens},
          {"two_tiers", plan.placed},
          {"fast_name", plan.tiers[0].name},
          {"slow_name",
           plan.placed || plan.host_table_bytes > 0 ? Object(plan.tiers[1].name) : Object(nullptr)},
          {"embedding_bytes", plan.embedding_bytes},
          {"attention_bytes", plan.attention_bytes(0)},
          {"slow_attention_bytes", plan.attention_bytes(1)},
          {"hot_bytes", plan.neuron_bytes(0)},
          {"cold_bytes", plan.neuron_bytes(1)},
          {"host_table_bytes", plan.host_table_bytes},
          {"predictor_bytes", plan.predictor_bytes(0) + plan.predictor_bytes(1)},
          {"adapter_bytes", plan.tiers[0].adapter_bytes + plan.tiers[1].adapter_bytes},
          {"kv_bytes", plan.kv_bytes(0)},
          {"slow_kv_bytes", plan.kv_bytes(1)},
          {"kv_classes", KvClassesJson(plan)},
          {"fast_scratch_bytes", plan.tiers[0].scratch_bytes},
          {"slow_scratch_bytes", plan.tiers[1].scratch_bytes},
          {"fast_total_bytes", plan.total_bytes(0)},
          {"slow_total_bytes", plan.total_bytes(1)},
          {"host_bytes", PlannedHostBytes(model)},
          {"available_bytes", available ? Object(available->n_bytes) : Object(nullptr)},
          {"transposed_downs", downs},
          {"layers", layers}};
}

}  // namespace thermocline
