#include "profiler/placement/placement_problem.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "runtime/core/error.h"
#include "runtime/core/size_text.h"
#include "runtime/model/stored_ffn.h"
#include "runtime/moves/neuron_mover.h"

namespace thermocline {
namespace {

std::vector<int32_t> OrderByCount(const LayerActivity& activity) {
  std::vector<int32_t> order(activity.count.size());
  std::iota(order.begin(), order.end(), 0);
  const auto hotter = [&](int32_t a, int32_t b) {
    const auto i = static_cast<size_t>(a);
    const auto j = static_cast<size_t>(b);
    if (activity.count[i] != activity.count[j]) return activity.count[i] > activity.count[j];
    if (activity.mass[i] != activity.mass[j]) return activity.mass[i] > activity.mass[j];
    return a < b;
  };
  std::sort(order.begin(), order.end(), hotter);
  return order;
}

// Plans what the tiers hold beside neurons, where a layer has at most so many on each. It grows
// with both. The placement has no orders, which a plan does not look at.
MemoryPlan PlanOfLimits(const OpenedModel& model, int64_t max_hot, int64_t max_cold,
                        const std::vector<uint8_t>& away = {}) {
  const int64_t d_ff = model.config().d_ff;
  Placement placement;
  placement.layers.assign(static_cast<size_t>(model.config().n_layers),
                          {{}, {d_ff - max_cold, max_cold}});
  placement.layers.front() = {{}, {max_hot, d_ff - max_hot}};
  SetAttention(&placement, away);
  return model.PlanOf(&placement);
}

// Returns what a tier of a plan holds beside neurons and layers' attention.
uint64_t Besides(const MemoryPlan& plan, std::span<const MovableAttention::Layer> attention,
                 size_t tier) {
  uint64_t n_bytes = plan.total_bytes(tier) - plan.neuron_bytes(tier);
  for (size_t l = 0; l < plan.layers.size(); ++l) {
    if (plan.layers[l].attention_tier != tier) continue;
    n_bytes -= tier == 0 ? attention[l].fast_bytes : attention[l].slow_bytes;
  }
  return n_bytes;
}

}  // namespace

std::string BudgetText(uint64_t n_bytes) {
  const bool small = n_bytes < (uint64_t{10} << 20);
  const uint64_t unit = uint64_t{1} << (small ? 10 : 20);
  return fmt::format("{}{}", (n_bytes + unit - 1) / unit, small ? "K" : "M");
}

void SetHot(Placement* placement, const std::vector<int64_t>& n_hot) {
  for (size_t l = 0; l < n_hot.size(); ++l) {
    LayerPlacement& layer = placement->layers[l];
    layer.n_on[kVram] = n_hot[l];
    layer.n_on[kDram] = static_cast<int64_t>(layer.neuron_order.size()) - n_hot[l];
  }
}

void SetAttention(Placement* placement, const std::vector<uint8_t>& away) {
  for (size_t l = 0; l < away.size(); ++l) {
    placement->layers[l].attention = away[l] != 0 ? kDram : kVram;
  }
}

MovableAttention MakeMovableAttention(const OpenedModel& model) {
  const auto n_layers = static_cast<size_t>(model.config().n_layers);
  const int64_t d_ff = model.config().d_ff;
  const MemoryPlan here = PlanOfLimits(model, d_ff, d_ff, std::vector<uint8_t>(n_layers, 0));
  const MemoryPlan away = PlanOfLimits(model, d_ff, d_ff, std::vector<uint8_t>(n_layers, 1));
  const KvLayout layout = model.KvLayoutFor(nullptr);
  MovableAttention movable;
  // Of each class of pages one layer away: there are as many classes then as there can be.
  std::vector<uint8_t> some(n_layers, 0);
  std::vector<bool> has_one(layout.classes.size());
  for (size_t l = n_layers; l-- > 0;) {
    const size_t c = layout.ClassOf(static_cast<int64_t>(l));
    if (!has_one[c]) some[l] = 1;
    has_one[c] = true;
  }
  for (size_t l = 0; l < n_layers; ++l) {
    const MemoryPlan::Kv& kv = here.kv[layout.ClassOf(static_cast<int64_t>(l))];
    const uint64_t kv_bytes = kv.bytes / static_cast<uint64_t>(kv.n_layers);
    movable.layers.push_back(
        {here.layers[l].attention_bytes - away.layers[l].attention_bytes + kv_bytes,
         away.layers[l].slow_attention_bytes + kv_bytes});
  }
  movable.fast_fixed_bytes = [&model, some, layers = movable.layers, d_ff](int64_t max_hot) {
    return Besides(PlanOfLimits(model, max_hot, d_ff, some), layers, 0);
  };
  movable.slow_fixed_bytes = [&model, some, layers = movable.layers, d_ff](int64_t max_cold) {
    return Besides(PlanOfLimits(model, d_ff - max_cold, max_cold, some), layers, 1);
  };
  return movable;
}

Placement OrderedPlacement(const OpenedModel& model, const ProfileStats& stats) {
  RequireNoEncoder(model.config(), model.gguf().path(), "placing neurons by a profile");
  RequireEqualFfns(model.config(), model.gguf().path(), "placing neurons by a profile");
  Placement placement;
  placement.model_fingerprint = PlacementFingerprint(model.gguf());
  placement.layers.resize(stats.calibration.layers.size());
  const ChannelOrders packed = ReadChannelOrders(model.gguf(), model.config());
  for (size_t l = 0; l < placement.layers.size(); ++l) {
    placement.layers[l].neuron_order =
        packed.empty() ? OrderByCount(stats.calibration.layers[l]) : packed[l];
  }
  return placement;
}

SolverProblem MakeProblem(const OpenedModel& model, const ProfileStats& stats,
                          const Placement& ordered, const Budgets& budgets) {
  SolverProblem problem;
  problem.d_ff = model.config().d_ff;
  problem.vram_bytes = budgets.vram_bytes;
  problem.ram_bytes = budgets.ram_bytes;
  for (size_t l = 0; l < ordered.layers.size(); ++l) {
    SolverLayer layer;
    const auto neuron_bytes = [&](WeightForm form) {
      return NeuronBytes(model.gguf(), model.family(), model.config(), static_cast<int64_t>(l),
                         {.dtype = model.options().down_type}, form);
    };
    layer.slow_neuron_bytes = neuron_bytes(WeightForm::kAsInFile);
    layer.fast_neuron_bytes =
        model.gpu().empty() ? layer.slow_neuron_bytes : neuron_bytes(WeightForm::kOnGpu);
    // A layer on one tier has no counters; that is less than was reckoned with.
    const uint64_t counter_bytes = model.plans_moves() ? NeuronMover::CounterBytes(1) : 0;
    layer.slow_neuron_bytes += counter_bytes;
    layer.fast_neuron_bytes += counter_bytes;
    layer.whole = model.config().layer(static_cast<int64_t>(l)).ffn.keeps_together();
    for (const int32_t id : ordered.layers[l].neuron_order) {
      layer.benefit.push_back(stats.calibration.layers[l].count[static_cast<size_t>(id)]);
    }
    problem.layers.push_back(std::move(layer));
  }
  problem.fast_fixed_bytes = [&model](int64_t max_hot) {
    return PlanOfLimits(model, max_hot, model.config().d_ff).fast_fixed_bytes();
  };
  problem.slow_fixed_bytes = [&model](int64_t max_cold) {
    const MemoryPlan plan = PlanOfLimits(model, model.config().d_ff - max_cold, max_cold);
    return plan.tiers[1].scratch_bytes + plan.host_table_bytes;
  };
  return problem;
}

void FailBudget(const OpenedModel& model, const Budgets& budgets, const SolverResult& result,
                bool attention_moves) {
  const bool vram = result.outcome == SolverOutcome::kVramTooSmall;
  const uint64_t given = vram ? budgets.vram_bytes : budgets.ram_bytes;
  const std::string memory = vram ? "VRAM" : "RAM";
  std::string holds = fmt::format("embeddings, {}and scratch lie there whatever is placed",
                                  attention_moves ? "the output head " : "attention, KV cache ");
  if (!vram) {
    holds = fmt::format("the neurons that {} of VRAM leave over lie there, and scratch",
                        FormatBytes(budgets.vram_bytes));
  }
  std::vector<SettingUse> settings = {{Setting::kVramBudget}};
  if (!vram) settings.insert(settings.begin(), {Setting::kRamBudget});
  settings.insert(settings.end(), {{Setting::kContextSize}, {Setting::kBatchSize}});
  throw Error({.path = model.gguf().path(),
               .what = fmt::format("the {} budget is too small ({})", memory, holds),
               .expected = fmt::format("{} or more ({})", BudgetText(result.least_bytes),
                                       FormatBytes(result.least_bytes)),
               .found = FormatBytes(given),
               .hint = fmt::format("raise {}, or take a smaller context ({} tokens now) or batch "
                                   "({} now), or a model quantised further",
                                   vram ? "it" : "it or the VRAM budget", model.context_tokens(),
                                   model.executor_options().max_tokens),
               .settings = std::move(settings)});
}

}  // namespace thermocline
