// Of the service: what it says of itself.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "tools/serve/answer_parts.h"
#include "tools/serve/page_text.h"
#include "tools/serve/service.h"

namespace thermocline {
namespace {

ApiJson SlotJson(const SlotState& slot, int64_t context_tokens) {
  const RunStats stats = slot.busy ? slot.stats : RunStats();
  return {{"id", slot.slot},
          {"id_task", slot.request},
          {"n_ctx", context_tokens},
          {"speculative", false},
          {"is_processing", slot.busy},
          {"n_tokens", slot.n_tokens},
          {"next_token", ApiJson::array({{{"has_next_token", slot.busy},
                                          {"n_remain", -1},
                                          {"n_decoded", stats.generated_tokens}}})}};
}

ApiJson PagesJson(const ScheduleStats& stats) {
  ApiJson list = ApiJson::array();
  for (const PageCounts& pages : stats.pages) {
    list.push_back({{"total", pages.n_pages}, {"free", pages.n_free}, {"kept", pages.n_kept}});
  }
  return list;
}

}  // namespace

HttpResponse Service::Page(const HttpRequest& /*request*/) {
  return {.content_type = "text/html; charset=utf-8",
          // Nothing is loaded from anywhere, and nothing but what the page brings is run.
          .headers = {{"Content-Security-Policy",
                       "default-src 'none'; style-src 'unsafe-inline'; script-src "
                       "'unsafe-inline'; connect-src 'self'; img-src data:; base-uri 'none'; "
                       "form-action 'none'; frame-ancestors 'none'"},
                      {"X-Content-Type-Options", "nosniff"},
                      {"Referrer-Policy", "no-referrer"},
                      {"Cache-Control", "no-cache"}},
          .body = std::string(PageText())};
}

HttpResponse Service::Health(const HttpRequest& /*request*/) {
  if (!ready_) throw ApiError(ApiErrorKind::kUnavailable, "the model is being loaded");
  return JsonResponse({{"status", "ok"}});
}

std::string Service::ModelName() const {
  // The first of the aliases in order, whatever order they were given in.
  if (!options_.aliases.empty()) {
    return *std::min_element(options_.aliases.begin(), options_.aliases.end());
  }
  return std::filesystem::path(options_.engine.model_path).filename().string();
}

HttpResponse Service::Models(const HttpRequest& /*request*/) {
  const ServedModel& model = served();
  const ModelConfig& config = model.host.model().config();
  const std::set<std::string> aliases(options_.aliases.begin(), options_.aliases.end());
  const std::set<std::string> tags(options_.tags.begin(), options_.tags.end());
  const ApiJson entry = {{"id", ModelName()},
                         {"object", "model"},
                         {"created", started_},
                         {"owned_by", "thermocline"},
                         {"aliases", aliases},
                         {"tags", tags},
                         {"meta",
                          {{"n_vocab", config.vocab_size},
                           {"n_ctx", model.host.context_tokens()},
                           {"n_ctx_train", config.max_seq_len},
                           {"n_embd", config.d_model}}}};
  return JsonResponse({{"object", "list"}, {"data", ApiJson::array({entry})}});
}

HttpResponse Service::Props(const HttpRequest& /*request*/) {
  const ServedModel& model = served();
  const Tokenizer& tokenizer = model.host.tokenizer();
  const auto name = [&](int32_t id) { return id < 0 ? "" : tokenizer.TokenName(id); };
  ApiJson params = SettingsJson(model.parser.Defaults());
  params["seed"] = options_.defaults.seed;
  return JsonResponse({{"default_generation_settings",
                        {{"n_ctx", model.host.context_tokens()}, {"params", params}}},
                       {"total_slots", options_.schedule.n_slots},
                       {"model_alias", ModelName()},
                       {"model_path", options_.engine.model_path},
                       {"modalities", {{"vision", false}, {"audio", false}}},
                       {"endpoint_slots", options_.tells_slots},
                       {"endpoint_metrics", options_.tells_metrics},
                       {"chat_template", model.chat.source()},
                       {"bos_token", name(tokenizer.bos_id())},
                       {"eos_token", name(tokenizer.eos_id())},
                       {"build_info", kSystemFingerprint},
                       {"is_sleeping", model.host.is_sleeping()}});
}

HttpResponse Service::Slots(const HttpRequest& /*request*/) {
  if (!options_.tells_slots) {
    throw ApiError(ApiErrorKind::kNotSupported, "this server does not show its slots");
  }
  const ServedModel& model = served();
  ApiJson list = ApiJson::array();
  for (const SlotState& slot : model.host.slots()) {
    list.push_back(SlotJson(slot, model.host.context_tokens()));
  }
  return JsonResponse(list);
}

HttpResponse Service::MetricsText(const HttpRequest& /*request*/) {
  if (!options_.tells_metrics) {
    throw ApiError(ApiErrorKind::kNotSupported, "this server does not show its metrics");
  }
  const ServedModel& model = served();
  MetricsLook look = {.stats = model.host.stats()};
  look.neurons = model.host.NeuronsOf(look.stats);
  return {.content_type = "text/plain; version=0.0.4; charset=utf-8",
          .headers = {{"Process-Start-Time-Unix", std::to_string(started_)}},
          .body = metrics_.Text(look)};
}

// What the page shows while it is open.
HttpResponse Service::Live(const HttpRequest& /*request*/) {
  const ServedModel& model = served();
  const ScheduleStats stats = model.host.stats();
  const FfnCount neurons = stats.neurons.Sum();
  const ModelHost::BytesPerToken bytes = model.host.Bytes(stats);
  ApiJson layers = ApiJson::array();
  for (const LayerHeat& layer : model.host.Heat(stats)) {
    layers.push_back({{"hot", layer.hot_share}, {"fired", layer.fired_share}});
  }
  ApiJson tiers = ApiJson::array();
  const std::vector<std::string> names = model.host.tier_names();
  for (size_t t = 0; t < stats.used_bytes.size(); ++t) {
    tiers.push_back({{"name", t < names.size() ? names[t] : std::to_string(t)},
                     {"bytes", stats.used_bytes[t]},
                     {"read_per_token", t < bytes.tiers.size() ? bytes.tiers[t] : 0}});
  }
  return JsonResponse({{"sleeping", model.host.is_sleeping()},
                       {"running", stats.n_running},
                       {"waiting", stats.n_waiting},
                       {"generated_tokens", stats.generated_tokens},
                       {"writing_ms", stats.writing_ms},
                       {"prompt_tokens", stats.prompt_tokens},
                       {"reading_ms", stats.reading_ms},
                       {"cached_tokens", stats.cached_tokens},
                       {"prefix_pages_hit", stats.prefix_pages_hit},
                       {"prefix_pages_missed", stats.prefix_pages_missed},
                       {"preempted", stats.n_preempted},
                       {"pages", PagesJson(stats)},
                       {"kv_read_bytes", stats.kv_bytes.read},
                       {"kv_unshared_bytes", stats.kv_bytes.unshared},
                       {"kv_host_pages", stats.host_pages.n_pages},
                       {"kv_host_bytes", stats.host_pages.bytes},
                       {"tiers", tiers},
                       {"bytes_per_token", bytes.read},
                       {"dense_bytes_per_token", bytes.dense},
                       {"neurons", model.host.NeuronsOf(stats)},
                       {"neurons_active", neurons.active},
                       {"batch_layers_by_neuron", stats.neurons.batch_layers_by_neuron},
                       {"batch_layers_dense", stats.neurons.batch_layers_dense},
                       {"layers", layers}});
}

}  // namespace thermocline
