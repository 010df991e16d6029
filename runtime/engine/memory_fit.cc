#include "runtime/engine/memory_fit.h"

#include <fmt/format.h>

#include <string>
#include <vector>

#include "runtime/core/error.h"
#include "runtime/core/size_text.h"

namespace thermocline {
namespace {

constexpr int64_t kLeastBatch = 32;
constexpr int64_t kLeastContext = 512;
constexpr int64_t kContextGrain = 256;

struct Change {
  std::string text;
  std::vector<SettingUse> settings;
};

// Looks for options like the model's with which the plan takes at most n_bytes of the host.
class ChangeSearch {
 public:
  ChangeSearch(const OpenedModel& model, uint64_t n_bytes) : model_(model), n_bytes_(n_bytes) {}

  // The least first: what changes no text, then what changes it by rounding, then what shortens it.
  std::optional<Change> Find() const {
    for (int64_t batch = model_.batch_tokens() / 2; batch >= kLeastBatch; batch /= 2) {
      EngineOptions options = model_.options();
      options.batch_tokens = batch;
      if (Fits(options)) {
        return Change{fmt::format("a batch of {} tokens fits", batch),
                      {{Setting::kBatchSize, std::to_string(batch)}}};
      }
    }
    EngineOptions options = model_.options();
    const SettingUse narrow = {Setting::kCacheType, "q8_0"};
    const bool may_narrow = options.cache_type != DType::kQ8_0;
    options.cache_type = DType::kQ8_0;
    if (may_narrow && Fits(options)) return Change{"a KV cache of q8_0 fits", {narrow}};
    if (const auto context = LargestContext(model_.options())) return OfContext(*context, {});
    const auto context = may_narrow ? LargestContext(options) : std::nullopt;
    return context ? std::optional(OfContext(*context, {narrow})) : std::nullopt;
  }

 private:
  static Change OfContext(int64_t context, std::vector<SettingUse> settings) {
    const char* const cache = settings.empty() ? "" : " with a KV cache of q8_0";
    settings.insert(settings.begin(), {Setting::kContextSize, std::to_string(context)});
    return {fmt::format("a context of {} tokens{} fits", context, cache), std::move(settings)};
  }

  bool Fits(const EngineOptions& options) const {
    try {
      return PlannedHostBytes(OpenedModel(options)) <= n_bytes_;
    } catch (const Error&) {
      return false;  // such a cache, or so short a context, is not for this model
    }
  }

  std::optional<int64_t> LargestContext(EngineOptions options) const {
    const auto fits = [&](int64_t context) {
      options.context_tokens = context;
      return Fits(options);
    };
    int64_t fitting = kLeastContext;
    int64_t too_many = model_.context_tokens();
    if (fitting >= too_many || !fits(fitting)) return std::nullopt;
    while (too_many - fitting > kContextGrain) {
      const int64_t middle = fitting + (too_many - fitting) / 2 / kContextGrain * kContextGrain;
      const int64_t next = middle == fitting ? fitting + kContextGrain : middle;
      (fits(next) ? fitting : too_many) = next;
    }
    return fitting;
  }

  const OpenedModel& model_;
  uint64_t n_bytes_;
};

void RequireVram(const OpenedModel& model, const MemoryPlan& plan) {
  if (model.gpu().empty()) return;
  const uint64_t free_bytes = GpuFreeBytes();
  if (plan.total_bytes(0) <= free_bytes) return;
  throw Error({.path = model.options().placement_path.empty() ? model.options().model_path
                                                              : model.options().placement_path,
               .what = "the run would take more than the GPU's free memory",
               .expected = fmt::format("at most {}", FormatBytes(free_bytes)),
               .found = FormatBytes(plan.total_bytes(0)),
               .hint = "place for less of it",
               .settings = {{Setting::kVramBudget}, {Setting::kContextSize}},
               .jobs = {Job::kPlace}});
}

}  // namespace

uint64_t PlannedHostBytes(const OpenedModel& model) {
  const MemoryPlan plan = model.Plan();
  uint64_t total = 0;
  for (size_t tier = model.gpu().empty() ? 0 : 1; tier < plan.tiers.size(); ++tier) {
    total += plan.total_bytes(tier);
  }
  return total;
}

void RequireMemory(const OpenedModel& model, const std::optional<AvailableMemory>& available) {
  RequireVram(model, model.Plan());
  if (!available || model.options().overcommit) return;
  const uint64_t planned = PlannedHostBytes(model);
  if (planned <= available->n_bytes) return;
  ErrorInfo info = {.path = model.options().model_path,
                    .what = "the run would take more memory than there is",
                    .expected = fmt::format("at most {} ({})", FormatBytes(available->n_bytes),
                                            available->limited_by),
                    .found = FormatBytes(planned)};
  if (auto change = ChangeSearch(model, available->n_bytes).Find()) {
    info.hint = std::move(change->text);
    info.settings = std::move(change->settings);
  } else {
    info.hint =
        "take a model quantised further; overcommitted, it reads what does not fit from the file "
        "again and again";
    info.settings = {{Setting::kOvercommit}};
    info.jobs = {Job::kQuantize};
  }
  throw Error(info);
}

}  // namespace thermocline
