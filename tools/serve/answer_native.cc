// /completion, as clients of llama.cpp's server know it.
#include <algorithm>
#include <cmath>

#include "tools/serve/answer_parts.h"

namespace thermocline {
namespace {

// Of a request's wish for some members only: "generation_settings/n_predict" is a member of a
// member.
ApiJson ChosenMembers(const ApiJson& whole, const std::vector<std::string>& wanted) {
  ApiJson chosen = ApiJson::object();
  for (const std::string& path : wanted) {
    const ApiJson* at = &whole;
    size_t begin = 0;
    while (at != nullptr && begin <= path.size()) {
      const size_t end = std::min(path.find('/', begin), path.size());
      const std::string name = path.substr(begin, end - begin);
      const auto found = at->is_object() ? at->find(name) : at->end();
      at = at->is_object() && found != at->end() ? &*found : nullptr;
      begin = end + 1;
    }
    if (at != nullptr) chosen[path] = *at;
  }
  return chosen;
}

class NativeAnswer : public Answer {
 public:
  using Answer::Answer;

  std::string OnProgress(const Choice& choice) override {
    ApiJson event = Part(choice);
    event["prompt_progress"] = ProgressJson(choice.stats);
    return Event(event);
  }
  std::string OnToken(const Choice& choice, const ReplyDelta& delta) override {
    if (choice.ids.empty() && delta.content.empty()) return "";
    ApiJson event = Part(choice);
    event["content"] = delta.content;
    if (!choice.ids.empty()) event["tokens"] = ApiJson::array({choice.ids.back()});
    if (const ApiJson record = LastRecordJson(context(), choice); !record.is_null()) {
      event["completion_probabilities"] = record;
    }
    return Event(event);
  }
  std::string OnEnd(const Choice& choice, const ReplyDelta& delta) override {
    ApiJson event = NativeJson(context(), choice);
    event["content"] = delta.content;  // the rest was sent
    event["tokens"] = ApiJson::array();
    event.erase("completion_probabilities");
    if (!spec().response_fields.empty()) event = ChosenMembers(event, spec().response_fields);
    return Event(event);
  }
  std::string OnAllEnded(std::span<const Choice> /*choices*/) override { return ""; }

  ApiJson Whole(std::span<const Choice> choices) override {
    ApiJson list = ApiJson::array();
    for (const Choice& choice : choices) {
      ApiJson one = NativeJson(context(), choice);
      if (!spec().response_fields.empty()) one = ChosenMembers(one, spec().response_fields);
      list.push_back(std::move(one));
    }
    return list.size() == 1 ? list[0] : list;
  }

 private:
  ApiJson Part(const Choice& choice) const {
    ApiJson event = {{"index", choice.index},
                     {"content", ""},
                     {"tokens", ApiJson::array()},
                     {"stop", false},
                     {"id_slot", choice.stats.slot},
                     {"tokens_predicted", choice.stats.generated_tokens},
                     {"tokens_evaluated", choice.stats.prompt_tokens}};
    if (spec().timings_per_token) event["timings"] = TimingsJson(choice.stats);
    return event;
  }
};

}  // namespace

ApiJson NativeJson(const AnswerContext& context, const Choice& choice) {
  const GenerationSpec& spec = *context.spec;
  ApiJson json = {{"index", choice.index},
                  {"content", choice.text},
                  {"tokens", spec.return_tokens ? ApiJson(choice.ids) : ApiJson::array()},
                  {"id_slot", choice.stats.slot},
                  {"stop", true},
                  {"model", context.model},
                  {"tokens_predicted", choice.stats.generated_tokens},
                  {"tokens_evaluated", choice.stats.prompt_tokens},
                  {"generation_settings", SettingsJson(spec)},
                  {"prompt", TextWithNames(*context.tokenizer, spec.prompts[choice.prompt])},
                  {"has_new_line", choice.text.find('\n') != std::string::npos},
                  {"truncated", choice.context_full || choice.stats.n_shifted > 0},
                  {"stop_type", StopKindName(choice.stop)},
                  {"stopping_word", choice.stopping_word},
                  {"tokens_cached", choice.stats.prompt_tokens +
                                        std::max<int64_t>(0, choice.stats.generated_tokens - 1)},
                  {"timings", TimingsJson(choice.stats)}};
  if (spec.wants_probs) {
    json["completion_probabilities"] = RecordsJson(context, choice.records);
  }
  return json;
}

ApiJson SettingsJson(const GenerationSpec& spec) {
  const SamplerOptions& s = spec.sampler;
  ApiJson biases = ApiJson::array();
  for (const TokenLogit& bias : s.logit_bias) {
    biases.push_back({{"bias", std::isfinite(bias.logit) ? ApiJson(bias.logit) : ApiJson(nullptr)},
                      {"token", bias.id}});
  }
  ApiJson steps = ApiJson::array();
  for (const SamplerStep step : s.steps) steps.push_back(SamplerStepName(step));
  return {{"seed", s.seed},
          {"temperature", s.temperature},
          {"dynatemp_range", s.dynatemp_range},
          {"dynatemp_exponent", s.dynatemp_exponent},
          {"top_k", s.top_k},
          {"top_p", s.top_p},
          {"min_p", s.min_p},
          {"top_n_sigma", s.top_n_sigma},
          {"xtc_probability", s.xtc_probability},
          {"xtc_threshold", s.xtc_threshold},
          {"typical_p", s.typical_p},
          {"repeat_last_n", s.repeat_last_n},
          {"repeat_penalty", s.repeat_penalty},
          {"presence_penalty", s.presence_penalty},
          {"frequency_penalty", s.frequency_penalty},
          {"dry_multiplier", s.dry_multiplier},
          {"dry_base", s.dry_base},
          {"dry_allowed_length", s.dry_allowed_length},
          {"dry_penalty_last_n", s.dry_last_n},
          {"mirostat", s.mirostat},
          {"mirostat_tau", s.mirostat_tau},
          {"mirostat_eta", s.mirostat_eta},
          {"adaptive_target", -1},  // a sampler that is not there: always off
          {"adaptive_decay", 0},
          {"stop", spec.stop},
          {"max_tokens", spec.max_tokens},
          {"n_predict", spec.max_tokens},
          {"n_keep", spec.n_keep},
          {"ignore_eos", spec.ignore_eos},
          {"stream", spec.stream},
          {"logit_bias", biases},
          {"n_probs", spec.n_probs},
          {"min_keep", s.min_keep},
          {"grammar", spec.grammar},
          {"samplers", steps},
          {"timings_per_token", spec.timings_per_token},
          {"post_sampling_probs", spec.after_sampling}};
}

std::unique_ptr<Answer> MakeNativeAnswer(AnswerContext context) {
  return std::make_unique<NativeAnswer>(std::move(context));
}

std::unique_ptr<Answer> MakeAnswer(AnswerContext context) {
  switch (context.spec->api) {
    case Api::kTextCompletions:
      return MakeTextAnswer(std::move(context));
    case Api::kChat:
      return MakeChatAnswer(std::move(context));
    case Api::kResponses:
      return MakeResponsesAnswer(std::move(context));
    case Api::kMessages:
      return MakeMessagesAnswer(std::move(context));
    default:
      return MakeNativeAnswer(std::move(context));
  }
}

std::string ErrorEvent(Api api, const ApiError& error) {
  ApiJson object = error.Object();
  if (api == Api::kMessages) {
    object = {{"type", "error"}, {"error", object["error"]}};
    return Event(object, "error");
  }
  if (api == Api::kResponses) {
    object = {{"type", "error"},
              {"code", object["error"]["type"]},
              {"message", object["error"]["message"]}};
    return Event(object, "error");
  }
  return Event(object);
}

}  // namespace thermocline
