// Anthropic's /v1/messages.
#include "tools/serve/answer_parts.h"
#include "tools/serve/reply_blocks.h"

namespace thermocline {
namespace {

class MessagesAnswer : public Answer {
 public:
  using Answer::Answer;

  std::string OnProgress(const Choice& /*choice*/) override { return ""; }
  std::string OnToken(const Choice& choice, const ReplyDelta& delta) override {
    std::string events;
    if (!begun_) events += Begin(choice);
    return events + Blocks(blocks_.Add(delta));
  }
  std::string OnEnd(const Choice& choice, const ReplyDelta& delta) override {
    std::string events = OnToken(choice, delta);
    events += Blocks(blocks_.Close());
    events += Event({{"type", "message_delta"},
                     {"delta", StopJson(choice)},
                     {"usage", {{"output_tokens", choice.stats.generated_tokens}}}},
                    "message_delta");
    return events;
  }
  std::string OnAllEnded(std::span<const Choice> /*choices*/) override {
    return Event({{"type", "message_stop"}}, "message_stop");
  }

  ApiJson Whole(std::span<const Choice> choices) override {
    const Choice& choice = choices.front();
    ApiJson content = ApiJson::array();
    if (!choice.reasoning.empty()) {
      content.push_back({{"type", "thinking"}, {"thinking", choice.reasoning}, {"signature", ""}});
    }
    if (!choice.content.empty() || (choice.calls.empty() && choice.reasoning.empty())) {
      content.push_back({{"type", "text"}, {"text", choice.content}});
    }
    for (const ParsedCall& call : choice.calls) {
      const ApiJson input = ApiJson::parse(call.arguments, nullptr, false);
      content.push_back({{"type", "tool_use"},
                         {"id", call.id},
                         {"name", call.name},
                         {"input", input.is_object() ? input : ApiJson::object()}});
    }
    ApiJson message = Frame(choice, std::move(content));
    message.update(StopJson(choice));
    message["usage"]["output_tokens"] = choice.stats.generated_tokens;
    return message;
  }

 private:
  ApiJson Frame(const Choice& choice, ApiJson content) const {
    return {{"id", "msg_" + context().id},
            {"type", "message"},
            {"role", "assistant"},
            {"model", context().model},
            {"content", std::move(content)},
            {"stop_reason", nullptr},
            {"stop_sequence", nullptr},
            {"usage",
             {{"cache_read_input_tokens", choice.stats.cached_tokens},
              {"input_tokens", choice.stats.prompt_tokens - choice.stats.cached_tokens},
              {"output_tokens", 0}}}};
  }
  std::string Begin(const Choice& choice) {
    begun_ = true;
    return Event({{"type", "message_start"}, {"message", Frame(choice, ApiJson::array())}},
                 "message_start");
  }
  static ApiJson StopJson(const Choice& choice) {
    const bool by_word = choice.stop == StopKind::kWord;
    const char* reason = "end_turn";
    if (choice.stop == StopKind::kLimit) {
      reason = "max_tokens";
    } else if (!choice.calls.empty()) {
      reason = "tool_use";
    } else if (by_word) {
      reason = "stop_sequence";
    }
    return {{"stop_reason", reason},
            {"stop_sequence", by_word ? ApiJson(choice.stopping_word) : ApiJson(nullptr)}};
  }
  static ApiJson BlockJson(const ReplyBlock& block) {
    switch (block.kind) {
      case ReplyBlockKind::kReasoning:
        return {{"type", "thinking"}, {"thinking", ""}, {"signature", ""}};
      case ReplyBlockKind::kCall:
        return {{"type", "tool_use"},
                {"id", block.call.id},
                {"name", block.call.name},
                {"input", ApiJson::object()}};
      default:
        return {{"type", "text"}, {"text", ""}};
    }
  }
  static ApiJson GrowthJson(ReplyBlockKind kind, const std::string& text) {
    switch (kind) {
      case ReplyBlockKind::kReasoning:
        return {{"type", "thinking_delta"}, {"thinking", text}};
      case ReplyBlockKind::kCall:
        return {{"type", "input_json_delta"}, {"partial_json", text}};
      default:
        return {{"type", "text_delta"}, {"text", text}};
    }
  }
  std::string BlockDelta(size_t index, ApiJson delta) const {
    return Event({{"type", "content_block_delta"}, {"index", index}, {"delta", std::move(delta)}},
                 "content_block_delta");
  }
  std::string Blocks(const std::vector<BlockEvent>& happened) const {
    std::string events;
    for (const BlockEvent& event : happened) {
      const ReplyBlock& block = blocks_.blocks()[event.index];
      switch (event.what) {
        case BlockEvent::What::kOpened:
          events += Event({{"type", "content_block_start"},
                           {"index", event.index},
                           {"content_block", BlockJson(block)}},
                          "content_block_start");
          break;
        case BlockEvent::What::kGrew:
          events += BlockDelta(event.index, GrowthJson(block.kind, event.text));
          break;
        case BlockEvent::What::kClosed:
          // Clients expect a signature; nothing is signed here.
          if (block.kind == ReplyBlockKind::kReasoning) {
            events += BlockDelta(event.index, {{"type", "signature_delta"}, {"signature", ""}});
          }
          events +=
              Event({{"type", "content_block_stop"}, {"index", event.index}}, "content_block_stop");
          break;
      }
    }
    return events;
  }

  bool begun_ = false;
  ReplyBlocks blocks_;
};

}  // namespace

std::unique_ptr<Answer> MakeMessagesAnswer(AnswerContext context) {
  return std::make_unique<MessagesAnswer>(std::move(context));
}

}  // namespace thermocline
