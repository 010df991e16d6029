// OpenAI's /v1/completions and /v1/chat/completions.
#include <utility>

#include "tools/serve/answer_parts.h"

namespace thermocline {
namespace {

// What the members of all answers and events of one API have in common.
class OpenAiAnswer : public Answer {
 public:
  using Answer::Answer;

 protected:
  ApiJson Frame(const char* object, ApiJson choices) const {
    return {{"id", Id()},
            {"object", object},
            {"created", context().created},
            {"model", context().model},
            {"system_fingerprint", kSystemFingerprint},
            {"choices", std::move(choices)}};
  }
  std::string Id() const {
    return (spec().api == Api::kChat ? "chatcmpl-" : "cmpl-") + context().id;
  }
  // What goes with the last event of a choice, or with an answer.
  void AddExtras(ApiJson* json, const Choice& choice) const {
    if (spec().verbose) (*json)["__verbose"] = NativeJson(context(), choice);
  }
  std::string LastEvents(const char* object, std::span<const Choice> choices) const {
    std::string events;
    if (spec().include_usage) {
      ApiJson usage = Frame(object, ApiJson::array());
      usage["usage"] = UsageJson(spec(), choices);
      usage["timings"] = TimingsJson(choices.front().stats);
      events += Event(usage);
    }
    return events + kDoneEvent;
  }
};

class TextAnswer : public OpenAiAnswer {
 public:
  using OpenAiAnswer::OpenAiAnswer;

  std::string OnProgress(const Choice& choice) override {
    ApiJson event = Part(choice, "", nullptr);
    event["prompt_progress"] = ProgressJson(choice.stats);
    return Event(event);
  }
  std::string OnToken(const Choice& choice, const ReplyDelta& delta) override {
    if (delta.content.empty() && !spec().wants_probs) return "";
    ApiJson event = Part(choice, delta.content, nullptr);
    if (const ApiJson record = LastRecordJson(context(), choice); !record.is_null()) {
      event["choices"][0]["logprobs"] = LogprobsJson(std::span(choice.records).last(1), record);
    }
    if (spec().timings_per_token) event["timings"] = TimingsJson(choice.stats);
    return Event(event);
  }
  std::string OnEnd(const Choice& choice, const ReplyDelta& delta) override {
    std::string events;
    if (!delta.content.empty()) events = Event(Part(choice, delta.content, nullptr));
    ApiJson last = Part(choice, "", Reason(choice));
    last["timings"] = TimingsJson(choice.stats);
    AddExtras(&last, choice);
    return events + Event(last);
  }
  std::string OnAllEnded(std::span<const Choice> choices) override {
    return LastEvents("text_completion", choices);
  }
  ApiJson Whole(std::span<const Choice> choices) override {
    ApiJson list = ApiJson::array();
    for (const Choice& choice : choices) {
      ApiJson one = ChoiceJson(choice, Echo(choice) + choice.text, Reason(choice));
      if (spec().wants_probs) {
        one["logprobs"] = LogprobsJson(choice.records, RecordsJson(context(), choice.records));
      }
      list.push_back(std::move(one));
    }
    ApiJson json = Frame("text_completion", std::move(list));
    json["usage"] = UsageJson(spec(), choices);
    json["timings"] = TimingsJson(choices.front().stats);
    AddExtras(&json, choices.front());
    return json;
  }

 private:
  static const char* Reason(const Choice& choice) {
    return choice.stop == StopKind::kLimit ? "length" : "stop";
  }
  std::string Echo(const Choice& choice) const {
    return spec().echo ? context().tokenizer->Decode(spec().prompts[choice.prompt]) : "";
  }
  static ApiJson ChoiceJson(const Choice& choice, const std::string& text, const char* reason) {
    return {{"text", text},
            {"index", choice.index},
            {"logprobs", nullptr},
            {"finish_reason", reason == nullptr ? ApiJson(nullptr) : ApiJson(reason)}};
  }
  ApiJson Part(const Choice& choice, const std::string& text, const char* reason) const {
    return Frame("text_completion", ApiJson::array({ChoiceJson(choice, text, reason)}));
  }
  // The arrays that this API has, and beside them the list that chat completions have.
  ApiJson LogprobsJson(std::span<const TokenRecord> records, const ApiJson& content) const {
    ApiJson tokens = ApiJson::array();
    ApiJson logprobs = ApiJson::array();
    ApiJson tops = ApiJson::array();
    ApiJson offsets = ApiJson::array();
    size_t offset = 0;
    for (const TokenRecord& record : records) {
      const std::string text = TextWithNames(*context().tokenizer, std::span(&record.id, 1));
      tokens.push_back(text);
      logprobs.push_back(record.logprob);
      offsets.push_back(offset);
      offset += text.size();
      ApiJson top = ApiJson::object();
      for (const TokenProb& other : record.likeliest) {
        top[TextWithNames(*context().tokenizer, std::span(&other.id, 1))] = other.logprob;
      }
      tops.push_back(std::move(top));
    }
    return {{"tokens", tokens},
            {"token_logprobs", logprobs},
            {"top_logprobs", tops},
            {"text_offset", offsets},
            {"content", content}};
  }
};

ApiJson MessageJson(const Choice& choice) {
  ApiJson message = {{"role", "assistant"}};
  const bool only_calls = choice.content.empty() && !choice.calls.empty();
  message["content"] = only_calls ? ApiJson(nullptr) : ApiJson(choice.content);
  if (!choice.reasoning.empty()) message["reasoning_content"] = choice.reasoning;
  if (!choice.calls.empty()) {
    ApiJson& calls = message["tool_calls"] = ApiJson::array();
    for (const ParsedCall& call : choice.calls) {
      calls.push_back({{"type", "function"},
                       {"id", call.id},
                       {"function", {{"name", call.name}, {"arguments", call.arguments}}}});
    }
  }
  return message;
}

class ChatAnswer : public OpenAiAnswer {
 public:
  using OpenAiAnswer::OpenAiAnswer;

  std::string OnProgress(const Choice& choice) override {
    const bool first = !HasBegun(choice);
    ApiJson event = Part(choice, Begin(choice));
    if (spec().timings_per_token && !first) event["timings"] = TimingsJson(choice.stats);
    event["prompt_progress"] = ProgressJson(choice.stats);
    return Event(event);
  }
  std::string OnToken(const Choice& choice, const ReplyDelta& delta) override {
    std::string events;
    if (!HasBegun(choice)) events += Event(Part(choice, Begin(choice)));
    ApiJson record = LastRecordJson(context(), choice);
    std::vector<ApiJson> deltas = Deltas(delta);
    if (deltas.empty() && !record.is_null()) deltas.push_back({{"content", ""}});
    for (size_t i = 0; i < deltas.size(); ++i) {
      ApiJson event = Part(choice, std::move(deltas[i]));
      if (i + 1 == deltas.size()) {
        if (!record.is_null()) event["choices"][0]["logprobs"] = {{"content", record}};
        if (spec().timings_per_token) event["timings"] = TimingsJson(choice.stats);
      }
      events += Event(event);
    }
    return events;
  }
  std::string OnEnd(const Choice& choice, const ReplyDelta& delta) override {
    std::string events;
    if (!HasBegun(choice)) events += Event(Part(choice, Begin(choice)));
    for (ApiJson& part : Deltas(delta)) events += Event(Part(choice, std::move(part)));
    ApiJson last = Part(choice, ApiJson::object());
    last["choices"][0]["finish_reason"] = FinishReason(choice);
    if (!spec().include_usage) last["timings"] = TimingsJson(choice.stats);
    AddExtras(&last, choice);
    return events + Event(last);
  }
  std::string OnAllEnded(std::span<const Choice> choices) override {
    return LastEvents("chat.completion.chunk", choices);
  }
  ApiJson Whole(std::span<const Choice> choices) override {
    ApiJson list = ApiJson::array();
    for (const Choice& choice : choices) {
      ApiJson one = {{"index", choice.index},
                     {"message", MessageJson(choice)},
                     {"finish_reason", FinishReason(choice)}};
      if (spec().wants_probs) {
        one["logprobs"] = {{"content", RecordsJson(context(), choice.records)}};
      }
      list.push_back(std::move(one));
    }
    ApiJson json = Frame("chat.completion", std::move(list));
    json["usage"] = UsageJson(spec(), choices);
    json["timings"] = TimingsJson(choices.front().stats);
    AddExtras(&json, choices.front());
    return json;
  }

 private:
  bool HasBegun(const Choice& choice) const {
    return static_cast<size_t>(choice.index) < begun_.size() &&
           begun_[static_cast<size_t>(choice.index)];
  }
  // The delta that a choice begins with, or an empty one.
  ApiJson Begin(const Choice& choice) {
    const auto index = static_cast<size_t>(choice.index);
    if (begun_.size() <= index) begun_.resize(index + 1);
    if (begun_[index]) return ApiJson::object();
    begun_[index] = true;
    return {{"role", "assistant"}, {"content", nullptr}};
  }
  ApiJson Part(const Choice& choice, ApiJson delta) const {
    return Frame(
        "chat.completion.chunk",
        ApiJson::array(
            {{{"index", choice.index}, {"delta", std::move(delta)}, {"finish_reason", nullptr}}}));
  }
  static std::vector<ApiJson> Deltas(const ReplyDelta& delta) {
    std::vector<ApiJson> deltas;
    if (!delta.reasoning.empty()) deltas.push_back({{"reasoning_content", delta.reasoning}});
    if (!delta.content.empty()) deltas.push_back({{"content", delta.content}});
    for (const ToolCallDelta& call : delta.calls) {
      ApiJson json = {{"index", call.index}};
      ApiJson function = ApiJson::object();
      if (!call.name.empty()) {
        json["id"] = call.id;
        json["type"] = "function";
        function["name"] = call.name;
      }
      function["arguments"] = call.arguments;
      json["function"] = std::move(function);
      deltas.push_back({{"tool_calls", ApiJson::array({std::move(json)})}});
    }
    return deltas;
  }

  std::vector<bool> begun_;  // choices of which the role was sent
};

}  // namespace

std::unique_ptr<Answer> MakeTextAnswer(AnswerContext context) {
  return std::make_unique<TextAnswer>(std::move(context));
}

std::unique_ptr<Answer> MakeChatAnswer(AnswerContext context) {
  return std::make_unique<ChatAnswer>(std::move(context));
}

}  // namespace thermocline
