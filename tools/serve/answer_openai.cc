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
  Json Frame(const char* object, Json choices) const {
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
  void AddExtras(Json* json, const Choice& choice) const {
    if (spec().verbose) (*json)["__verbose"] = NativeJson(context(), choice);
  }
  std::string LastEvents(const char* object, std::span<const Choice> choices) const {
    std::string events;
    if (spec().include_usage) {
      Json usage = Frame(object, Json::array());
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
    Json event = Part(choice, "", nullptr);
    event["prompt_progress"] = ProgressJson(choice.stats);
    return Event(event);
  }
  std::string OnToken(const Choice& choice, const ReplyDelta& delta) override {
    if (delta.content.empty() && !spec().wants_probs) return "";
    Json event = Part(choice, delta.content, nullptr);
    if (const Json record = LastRecordJson(context(), choice); !record.is_null()) {
      event["choices"][0]["logprobs"] = LogprobsJson(std::span(choice.records).last(1), record);
    }
    if (spec().timings_per_token) event["timings"] = TimingsJson(choice.stats);
    return Event(event);
  }
  std::string OnEnd(const Choice& choice, const ReplyDelta& delta) override {
    std::string events;
    if (!delta.content.empty()) events = Event(Part(choice, delta.content, nullptr));
    Json last = Part(choice, "", Reason(choice));
    last["timings"] = TimingsJson(choice.stats);
    AddExtras(&last, choice);
    return events + Event(last);
  }
  std::string OnAllEnded(std::span<const Choice> choices) override {
    return LastEvents("text_completion", choices);
  }
  Json Whole(std::span<const Choice> choices) override {
    Json list = Json::array();
    for (const Choice& choice : choices) {
      Json one = ChoiceJson(choice, Echo(choice) + choice.text, Reason(choice));
      if (spec().wants_probs) {
        one["logprobs"] = LogprobsJson(choice.records, RecordsJson(context(), choice.records));
      }
      list.push_back(std::move(one));
    }
    Json json = Frame("text_completion", std::move(list));
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
  static Json ChoiceJson(const Choice& choice, const std::string& text, const char* reason) {
    return {{"text", text},
            {"index", choice.index},
            {"logprobs", nullptr},
            {"finish_reason", reason == nullptr ? Json(nullptr) : Json(reason)}};
  }
  Json Part(const Choice& choice, const std::string& text, const char* reason) const {
    return Frame("text_completion", Json::array({ChoiceJson(choice, text, reason)}));
  }
  // The arrays that this API has, and beside them the list that chat completions have.
  Json LogprobsJson(std::span<const TokenRecord> records, const Json& content) const {
    Json tokens = Json::array();
    Json logprobs = Json::array();
    Json tops = Json::array();
    Json offsets = Json::array();
    size_t offset = 0;
    for (const TokenRecord& record : records) {
      const std::string text = TextWithNames(*context().tokenizer, std::span(&record.id, 1));
      tokens.push_back(text);
      logprobs.push_back(record.logprob);
      offsets.push_back(offset);
      offset += text.size();
      Json top = Json::object();
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

Json MessageJson(const Choice& choice) {
  Json message = {{"role", "assistant"}};
  const bool only_calls = choice.content.empty() && !choice.calls.empty();
  message["content"] = only_calls ? Json(nullptr) : Json(choice.content);
  if (!choice.reasoning.empty()) message["reasoning_content"] = choice.reasoning;
  if (!choice.calls.empty()) {
    Json& calls = message["tool_calls"] = Json::array();
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
    Json event = Part(choice, Begin(choice));
    if (spec().timings_per_token && !first) event["timings"] = TimingsJson(choice.stats);
    event["prompt_progress"] = ProgressJson(choice.stats);
    return Event(event);
  }
  std::string OnToken(const Choice& choice, const ReplyDelta& delta) override {
    std::string events;
    if (!HasBegun(choice)) events += Event(Part(choice, Begin(choice)));
    Json record = LastRecordJson(context(), choice);
    std::vector<Json> deltas = Deltas(delta);
    if (deltas.empty() && !record.is_null()) deltas.push_back({{"content", ""}});
    for (size_t i = 0; i < deltas.size(); ++i) {
      Json event = Part(choice, std::move(deltas[i]));
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
    for (Json& part : Deltas(delta)) events += Event(Part(choice, std::move(part)));
    Json last = Part(choice, Json::object());
    last["choices"][0]["finish_reason"] = FinishReason(choice);
    if (!spec().include_usage) last["timings"] = TimingsJson(choice.stats);
    AddExtras(&last, choice);
    return events + Event(last);
  }
  std::string OnAllEnded(std::span<const Choice> choices) override {
    return LastEvents("chat.completion.chunk", choices);
  }
  Json Whole(std::span<const Choice> choices) override {
    Json list = Json::array();
    for (const Choice& choice : choices) {
      Json one = {{"index", choice.index},
                  {"message", MessageJson(choice)},
                  {"finish_reason", FinishReason(choice)}};
      if (spec().wants_probs) {
        one["logprobs"] = {{"content", RecordsJson(context(), choice.records)}};
      }
      list.push_back(std::move(one));
    }
    Json json = Frame("chat.completion", std::move(list));
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
  Json Begin(const Choice& choice) {
    const auto index = static_cast<size_t>(choice.index);
    if (begun_.size() <= index) begun_.resize(index + 1);
    if (begun_[index]) return Json::object();
    begun_[index] = true;
    return {{"role", "assistant"}, {"content", nullptr}};
  }
  Json Part(const Choice& choice, Json delta) const {
    return Frame(
        "chat.completion.chunk",
        Json::array(
            {{{"index", choice.index}, {"delta", std::move(delta)}, {"finish_reason", nullptr}}}));
  }
  static std::vector<Json> Deltas(const ReplyDelta& delta) {
    std::vector<Json> deltas;
    if (!delta.reasoning.empty()) deltas.push_back({{"reasoning_content", delta.reasoning}});
    if (!delta.content.empty()) deltas.push_back({{"content", delta.content}});
    for (const ToolCallDelta& call : delta.calls) {
      Json json = {{"index", call.index}};
      Json function = Json::object();
      if (!call.name.empty()) {
        json["id"] = call.id;
        json["type"] = "function";
        function["name"] = call.name;
      }
      function["arguments"] = call.arguments;
      json["function"] = std::move(function);
      deltas.push_back({{"tool_calls", Json::array({std::move(json)})}});
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
