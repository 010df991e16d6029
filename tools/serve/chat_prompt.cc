#include "tools/serve/chat_prompt.h"

#include <array>
#include <ctime>
#include <utility>

#include "runtime/core/error.h"
#include "runtime/text/shielded_text.h"

namespace thermocline {
namespace {

std::string_view TrimmedEnd(std::string_view text) {
  const size_t last = text.find_last_not_of(" \t\r\n");
  return last == std::string_view::npos ? std::string_view() : text.substr(0, last + 1);
}

// Templates know "developer" as the system's, but for that of gpt-oss.
void RenameDeveloper(const std::string& source, ApiJson* messages) {
  if (source.find("<|channel|>") != std::string::npos) return;
  for (ApiJson& message : *messages) {
    if (message["role"] == "developer") message["role"] = "system";
  }
}

std::string DateText(const char* form) {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  ::localtime_r(&now, &local);
  std::array<char, 64> text{};
  return {text.data(), std::strftime(text.data(), text.size(), form, &local)};
}

// What templates of some models expect of who renders them: today, and tools as a text.
void AddUsualVariables(const std::string& source, const ChatRequest& request, ApiJson* variables) {
  const auto add = [&](const char* name, const std::string& value) {
    const bool asked = source.find(name) != std::string::npos;
    if (asked && !variables->contains(name)) (*variables)[name] = value;
  };
  add("date_string", DateText("%d %b %Y"));
  add("datetime", DateText("%b %d %Y %H:%M:%S GMT"));
  add("functions", request.tools.is_null() ? "" : request.tools.dump(4));
}

// The arguments of calls as texts, which is how some templates want them.
ApiJson WithArgumentTexts(ApiJson messages) {
  for (ApiJson& message : messages) {
    if (!message.contains("tool_calls")) continue;
    for (ApiJson& call : message["tool_calls"]) {
      ApiJson& arguments = call["function"]["arguments"];
      if (!arguments.is_string()) arguments = Dump(arguments);
    }
  }
  return messages;
}

}  // namespace

ChatPrompts::ChatPrompts(const ChatFormatOptions& options, const Tokenizer& tokenizer,
                         Thinking thinking)
    : source_(options.source),
      reply_format_(DetectReplyFormat(options.source)),
      tokenizer_(tokenizer),
      format_(options, tokenizer),
      thinking_(thinking) {}

std::string ChatPrompts::Render(const ChatRequest& request) const {
  ChatFormat::PromptInput input = {.messages = request.messages,
                                   .tools = request.tools,
                                   .add_generation_prompt = request.add_generation_prompt,
                                   .variables = request.variables};
  if (request.continues_last) {
    input.messages.erase(input.messages.size() - 1);
    input.add_generation_prompt = true;
  }
  RenameDeveloper(source_, &input.messages);
  AddUsualVariables(source_, request, &input.variables);
  // Templates that ask for it mean by an undefined one what each of them likes.
  input.variables["enable_thinking"] = request.thinks.value_or(thinking_ != Thinking::kOff);
  try {
    return format_.ShieldedPrompt(input);
  } catch (const Error& error) {
    try {
      input.messages = WithArgumentTexts(std::move(input.messages));
      return format_.ShieldedPrompt(input);
    } catch (const Error&) {
      throw ApiError(
          ApiErrorKind::kInvalidRequest,
          "the model's chat template refuses the conversation: " + Printable(error.what(), 400));
    }
  }
}

void ChatPrompts::CloseThought(std::string* prompt) const {
  if (!reply_format_.thinks()) return;
  if (EndsInThinking(reply_format_, *prompt)) {
    *prompt += reply_format_.think_close;
    return;
  }
  // Command R7B thinks unless its reply begins with an empty thought.
  if (reply_format_.think_open == "<|START_THINKING|>" &&
      prompt->find(reply_format_.think_close) == std::string::npos &&
      TrimmedEnd(*prompt).ends_with("<|CHATBOT_TOKEN|>")) {
    *prompt += reply_format_.think_open + reply_format_.think_close;
  }
}

ChatPrompt ChatPrompts::Make(const ChatRequest& request) const {
  ChatPrompt prompt;
  std::string shielded = Render(request);
  if (!request.thinks.value_or(thinking_ != Thinking::kOff)) CloseThought(&shielded);
  if (request.continues_last) {
    const auto& begun = request.messages.back()["content"].get_ref<const std::string&>();
    shielded += ShieldControlTokens(tokenizer_, begun);
  }
  prompt.format = reply_format_;
  prompt.format.starts_thinking = EndsInThinking(reply_format_, shielded);
  prompt.ids = EncodeShielded(tokenizer_, shielded);
  prompt.text = WithoutShields(shielded);
  // BOS is a token that every prompt begins with, whoever writes its name.
  const int32_t bos = tokenizer_.bos_id();
  if (tokenizer_.add_bos() && bos >= 0) {
    const std::string name = tokenizer_.TokenName(bos);
    if (!name.empty() && prompt.text.starts_with(name)) prompt.text.erase(0, name.size());
  }
  return prompt;
}

}  // namespace thermocline
