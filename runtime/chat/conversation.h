// A conversation: messages as chat programs exchange them, {"role": "user", "content": "Hello"}.
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace thermocline {

class Conversation {
 public:
  using Json = nlohmann::ordered_json;

  // How long a conversation may be that comes from somewhere else.
  static constexpr size_t kMaxMessages = size_t{1} << 16;
  static constexpr size_t kMaxRoleBytes = 64;

  // Reads a JSON array of messages. Each has a role and a content, both texts; what else stands in
  // one is kept, for the template. `name`: the file, for messages. Throws Error.
  static Conversation Parse(std::string_view json, const std::string& name);
  // Returns the array as text, a message a line.
  std::string ToJson() const;

  // All messages, the system's first if there is one.
  const Json& messages() const { return messages_; }
  // Empty where there is none.
  std::string system() const { return has_system() ? TextOf(messages_.front()) : ""; }
  // Sets what the system says; an empty text takes it away.
  void set_system(std::string_view text);

  // Adds a message. Bytes that are not UTF-8 become U+FFFD.
  void Add(std::string_view role, std::string_view text);
  // Appends to the last message. REQUIRES: there is one.
  void Append(std::string_view text);
  // Removes the last message. REQUIRES: there is one.
  void RemoveLast() { messages_.erase(messages_.size() - 1); }
  // Removes the messages behind the last of the user. Returns whether there is such a one; else
  // nothing changes.
  bool RewindToUser();
  // Forgets all but what the system says.
  void Clear();

  bool EndsWith(std::string_view role) const;
  // REQUIRES: there is a message.
  std::string last_text() const { return TextOf(messages_.back()); }
  // Messages but for the system's.
  size_t n_turns() const { return messages_.size() - (has_system() ? 1 : 0); }

 private:
  static std::string TextOf(const Json& message) {
    return message.at("content").get<std::string>();
  }
  bool has_system() const;

  Json messages_ = Json::array();
};

}  // namespace thermocline
