// OpenAI's /v1/responses.
#include <fmt/format.h>

#include "tools/serve/answer_parts.h"
#include "tools/serve/reply_blocks.h"

namespace thermocline {
namespace {

class ResponsesAnswer : public Answer {
 public:
  using Answer::Answer;

  std::string OnProgress(const Choice& choice) override {
    std::string events = Begin();
    ApiJson data = Response("in_progress", ApiJson::array());
    ApiJson extra = {{"prompt_progress", ProgressJson(choice.stats)}};
    if (spec().timings_per_token) extra["timings"] = TimingsJson(choice.stats);
    return events + Numbered("response.in_progress", {{"response", std::move(data)}}, extra);
  }
  std::string OnToken(const Choice& choice, const ReplyDelta& delta) override {
    std::string events = Begin();
    ApiJson extra = ApiJson::object();
    if (spec().timings_per_token) extra["timings"] = TimingsJson(choice.stats);
    for (const BlockEvent& event : blocks_.Add(delta)) events += BlockEvents(event, extra);
    return events;
  }
  std::string OnEnd(const Choice& choice, const ReplyDelta& delta) override {
    std::string events = OnToken(choice, delta);
    for (const BlockEvent& event : blocks_.Close()) {
      events += BlockEvents(event, ApiJson::object());
    }
    return events;
  }
  std::string OnAllEnded(std::span<const Choice> choices) override {
    ApiJson output = ApiJson::array();
    for (size_t i = 0; i < blocks_.blocks().size(); ++i) {
      output.push_back(Item(blocks_.blocks()[i], i, true));
    }
    // A reply that was cut is completed, too: incomplete_details says so, and clients wait for
    // this.
    return Numbered("response.completed", {{"response", Finished(choices, std::move(output))}},
                    {{"timings", TimingsJson(choices.front().stats)}});
  }

  ApiJson Whole(std::span<const Choice> choices) override {
    const Choice& choice = choices.front();
    ReplyDelta all = {.content = choice.content, .reasoning = choice.reasoning, .calls = {}};
    for (size_t i = 0; i < choice.calls.size(); ++i) {
      const ParsedCall& call = choice.calls[i];
      all.calls.push_back(
          {.index = i, .id = call.id, .name = call.name, .arguments = call.arguments});
    }
    ReplyBlocks blocks;
    blocks.Add(all);
    ApiJson output = ApiJson::array();
    for (size_t i = 0; i < blocks.blocks().size(); ++i) {
      output.push_back(Item(blocks.blocks()[i], i, true));
    }
    ApiJson response = Finished(choices, std::move(output));
    response["timings"] = TimingsJson(choice.stats);
    return response;
  }

 private:
  static bool IsCut(std::span<const Choice> choices) {
    return choices.front().stop == StopKind::kLimit;
  }
  std::string Numbered(const char* type, ApiJson data, const ApiJson& extra = ApiJson::object()) {
    ApiJson event = {{"type", type}, {"sequence_number", n_events_++}};
    event.update(data);
    event.update(extra);
    return Event(event, type);
  }
  ApiJson Response(const char* status, ApiJson output) const {
    ApiJson response = {{"id", "resp_" + context().id},
                        {"object", "response"},
                        {"created_at", context().created},
                        {"status", status},
                        {"error", nullptr},
                        {"incomplete_details", nullptr},
                        {"model", context().model},
                        {"output", std::move(output)},
                        {"parallel_tool_calls", true},
                        {"tool_choice", "auto"},
                        {"tools", ApiJson::array()},
                        {"temperature", spec().sampler.temperature},
                        {"top_p", spec().sampler.top_p}};
    response.update(spec().echoed);
    return response;
  }
  ApiJson Finished(std::span<const Choice> choices, ApiJson output) const {
    ApiJson response = Response("completed", std::move(output));
    if (IsCut(choices)) response["incomplete_details"] = {{"reason", "max_output_tokens"}};
    const TokenCounts counts = CountTokens(spec(), choices);
    response["usage"] = {{"input_tokens", counts.prompt},
                         {"input_tokens_details", {{"cached_tokens", counts.cached}}},
                         {"output_tokens", counts.written},
                         {"output_tokens_details", {{"reasoning_tokens", 0}}},
                         {"total_tokens", counts.prompt + counts.written}};
    return response;
  }
  std::string Begin() {
    if (begun_) return "";
    begun_ = true;
    const ApiJson data = {{"response", Response("in_progress", ApiJson::array())}};
    std::string events = Numbered("response.created", data);
    return events += Numbered("response.in_progress", data);
  }
  std::string ItemId(const ReplyBlock& block, size_t index) const {
    const char* kind = block.kind == ReplyBlockKind::kText ? "msg" : "rs";
    if (block.kind == ReplyBlockKind::kCall) kind = "fc";
    return fmt::format("{}_{}{}", kind, context().id, index);
  }
  static ApiJson TextPart(const std::string& text) {
    return {{"type", "output_text"},
            {"text", text},
            {"annotations", ApiJson::array()},
            {"logprobs", ApiJson::array()}};
  }
  ApiJson Item(const ReplyBlock& block, size_t index, bool whole) const {
    const char* status = whole ? "completed" : "in_progress";
    ApiJson item = {{"id", ItemId(block, index)}};
    switch (block.kind) {
      case ReplyBlockKind::kReasoning:
        item["type"] = "reasoning";
        item["summary"] = ApiJson::array();
        item["content"] = ApiJson::array();
        if (whole) {
          item["content"].push_back({{"type", "reasoning_text"}, {"text", block.text}});
        }
        break;
      case ReplyBlockKind::kCall:
        item["type"] = "function_call";
        item["call_id"] = block.call.id;
        item["name"] = block.call.name;
        item["arguments"] = whole ? block.text : "";
        break;
      default:
        item["type"] = "message";
        item["role"] = "assistant";
        item["content"] = whole ? ApiJson::array({TextPart(block.text)}) : ApiJson::array();
    }
    item["status"] = status;
    return item;
  }
  std::string BlockEvents(const BlockEvent& event, const ApiJson& extra) {
    const ReplyBlock& block = blocks_.blocks()[event.index];
    if (event.what == BlockEvent::What::kOpened) return Opened(block, event.index);
    if (event.what == BlockEvent::What::kClosed) return Closed(block, event.index);
    const ApiJson delta = {{"item_id", ItemId(block, event.index)},
                           {"output_index", event.index},
                           {"content_index", 0},
                           {"logprobs", ApiJson::array()},
                           {"delta", event.text}};
    return Numbered(DeltaName(block.kind), delta, extra);
  }
  static const char* DeltaName(ReplyBlockKind kind) {
    switch (kind) {
      case ReplyBlockKind::kReasoning:
        return "response.reasoning_text.delta";
      case ReplyBlockKind::kCall:
        return "response.function_call_arguments.delta";
      default:
        return "response.output_text.delta";
    }
  }
  std::string Opened(const ReplyBlock& block, size_t index) {
    std::string events = Numbered("response.output_item.added",
                                  {{"output_index", index}, {"item", Item(block, index, false)}});
    if (block.kind == ReplyBlockKind::kText) {
      events += Numbered("response.content_part.added", {{"item_id", ItemId(block, index)},
                                                         {"output_index", index},
                                                         {"content_index", 0},
                                                         {"part", TextPart("")}});
    }
    return events;
  }
  std::string Closed(const ReplyBlock& block, size_t index) {
    const ApiJson where = {{"item_id", ItemId(block, index)}, {"output_index", index}};
    const auto with = [&where](const ApiJson& more) {
      ApiJson data = where;
      data.update(more);
      return data;
    };
    std::string events;
    switch (block.kind) {
      case ReplyBlockKind::kReasoning:
        events += Numbered("response.reasoning_text.done",
                           with({{"content_index", 0}, {"text", block.text}}));
        break;
      case ReplyBlockKind::kCall:
        events += Numbered("response.function_call_arguments.done",
                           with({{"name", block.call.name}, {"arguments", block.text}}));
        break;
      default:
        events += Numbered(
            "response.output_text.done",
            with({{"content_index", 0}, {"text", block.text}, {"logprobs", ApiJson::array()}}));
        events += Numbered("response.content_part.done",
                           with({{"content_index", 0}, {"part", TextPart(block.text)}}));
    }
    return events + Numbered("response.output_item.done",
                             {{"output_index", index}, {"item", Item(block, index, true)}});
  }

  bool begun_ = false;
  int64_t n_events_ = 0;
  ReplyBlocks blocks_;
};

}  // namespace

std::unique_ptr<Answer> MakeResponsesAnswer(AnswerContext context) {
  return std::make_unique<ResponsesAnswer>(std::move(context));
}

}  // namespace thermocline
