#include "runtime/chat/conversation.h"

#include <fmt/format.h>

#include "runtime/core/error.h"
#include "runtime/text/utf8.h"

namespace thermocline {
namespace {

constexpr const char* kSystem = "system";
constexpr const char* kHowItLooks =
    R"(write [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi."}])";

bool HasRole(const Conversation::Json& message, std::string_view role) {
  return message.at("role").get_ref<const std::string&>() == role;
}

[[noreturn]] void FailParse(const std::string& name, std::string what, std::string expected,
                            std::string found) {
  throw Error({.path = name,
               .what = std::move(what),
               .expected = std::move(expected),
               .found = std::move(found),
               .hint = kHowItLooks});
}

void CheckMessage(const Conversation::Json& message, size_t number, const std::string& name) {
  if (!message.is_object()) {
    FailParse(name, fmt::format("message {}", number), "an object", message.type_name());
  }
  for (const char* key : {"role", "content"}) {
    const auto at = message.find(key);
    if (at != message.end() && at->is_string()) continue;
    FailParse(name, fmt::format("{} of message {}", key, number), "a text",
              at == message.end() ? "none" : at->type_name());
  }
  const auto& role = message.at("role").get_ref<const std::string&>();
  if (role.size() > Conversation::kMaxRoleBytes) {
    FailParse(name, fmt::format("role of message {}", number),
              fmt::format("at most {} bytes", Conversation::kMaxRoleBytes),
              std::to_string(role.size()));
  }
}

}  // namespace

Conversation Conversation::Parse(std::string_view json, const std::string& name) {
  Conversation conversation;
  try {
    conversation.messages_ = Json::parse(json);
  } catch (const nlohmann::json::exception& error) {
    FailParse(name, "not a conversation", "JSON", Printable(error.what(), 200));
  }
  const Json& messages = conversation.messages_;
  if (!messages.is_array()) {
    FailParse(name, "not a conversation", "an array of messages", messages.type_name());
  }
  if (messages.size() > kMaxMessages) {
    FailParse(name, "number of messages", fmt::format("at most {}", kMaxMessages),
              std::to_string(messages.size()));
  }
  for (size_t i = 0; i < messages.size(); ++i) CheckMessage(messages[i], i + 1, name);
  return conversation;
}

std::string Conversation::ToJson() const {
  std::string text = "[";
  for (const Json& message : messages_) {
    text += text.size() == 1 ? "\n  " : ",\n  ";
    text += message.dump();
  }
  return text + "\n]\n";
}

bool Conversation::has_system() const {
  return !messages_.empty() && HasRole(messages_.front(), kSystem);
}

void Conversation::set_system(std::string_view text) {
  if (has_system()) messages_.erase(0);
  if (text.empty()) return;
  messages_.insert(messages_.begin(),
                   Json{{"role", kSystem}, {"content", ReplaceInvalidUtf8(text)}});
}

void Conversation::Add(std::string_view role, std::string_view text) {
  messages_.push_back(Json{{"role", role}, {"content", ReplaceInvalidUtf8(text)}});
}

void Conversation::Append(std::string_view text) {
  messages_.back()["content"] = last_text() + ReplaceInvalidUtf8(text);
}

bool Conversation::RewindToUser() {
  for (size_t n = messages_.size(); n > 0; --n) {
    if (!HasRole(messages_[n - 1], "user")) continue;
    while (messages_.size() > n) RemoveLast();
    return true;
  }
  return false;
}

void Conversation::Clear() {
  while (messages_.size() > (has_system() ? 1U : 0U)) RemoveLast();
}

bool Conversation::EndsWith(std::string_view role) const {
  return !messages_.empty() && HasRole(messages_.back(), role);
}

}  // namespace thermocline
