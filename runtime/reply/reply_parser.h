// Takes a reply apart while it is being written: content, reasoning and calls of tools. What is no
// whole call of a tool is content.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/reply/call_scanner.h"
#include "runtime/reply/reply_format.h"

namespace thermocline {

struct ToolCallDelta {
  size_t index = 0;  // of the call in the reply
  // Set where the call begins.
  std::string id = {};
  std::string name = {};
  std::string arguments = {};  // a piece of their JSON
};

struct ReplyDelta {
  std::string content = {};
  std::string reasoning = {};
  std::vector<ToolCallDelta> calls = {};

  bool empty() const { return content.empty() && reasoning.empty() && calls.empty(); }
};

struct ReplyParserOptions {
  bool calls = true;      // look for calls of tools
  bool reasoning = true;  // part reasoning from content; else its marks stay in the content
  // The tools' names. A call that no mark announces counts as one only under such a name.
  std::vector<std::string> tools = {};
  // Makes ids of calls that bring none; null: random ones.
  std::function<std::string()> new_id = {};
};

class ReplyParser {
 public:
  ReplyParser(ReplyFormat format, ReplyParserOptions options);

  // Takes more of the reply, in pieces of any size, and returns what is known by it. The text has
  // the names of the control tokens that SpokenTokens lists.
  ReplyDelta Push(std::string_view text);
  // The reply is over: returns what was held back.
  ReplyDelta Finish();

  size_t n_calls() const { return n_calls_; }

 private:
  enum class State : uint8_t {
    kStart,  // nothing but white space so far
    kReasoning,
    kContent,
    kCall,       // within a call's object
    kCallName,   // of Mistral, up to [ARGS]
    kCallValue,  // the arguments alone
    kAfterCall,  // where another one may follow
    kCode,       // behind <|python_tag|>: a program
    kHeader,     // Harmony's, up to <|message|>
    kAnalysis,   // bodies of Harmony's messages
    kFinal,
    kArguments,
    kBetween,  // Harmony's messages
  };

  // Each makes a step; false: more text is needed.
  bool Step(bool at_end);
  bool StepStart(bool at_end);
  bool StepReasoning(bool at_end);
  bool StepContent(bool at_end);
  bool StepCall(bool at_end);
  bool StepCallName(bool at_end);
  bool StepCallValue(bool at_end);
  bool StepAfterCall(bool at_end);
  bool StepCode(bool at_end);
  bool StepHeader(bool at_end);
  bool StepBody(bool at_end);
  bool StepBetween(bool at_end);

  // Takes text up to the first of some marks, or as much as surely is before one, and hands it to
  // `put`. Returns the mark, which is taken, too; -1: there is none yet.
  int TakeUntil(const std::vector<std::string_view>& marks, bool at_end,
                const std::function<void(std::string_view)>& put);
  // Whether the text begins with a mark, which is taken then; nothing: it may, with more text.
  std::optional<bool> TakeMark(std::string_view mark, bool at_end);
  void SkipSpace();
  void PutContent(std::string_view text);
  void PutReasoning(std::string_view text);
  void PutArguments(std::string_view text);
  void BeginCall(const std::string& name, const std::string& id);
  void BeginObject();
  // The text since the call's mark is content after all.
  void GiveUpCall();
  bool IsTool(const std::string& name) const;
  bool tagged() const { return tagged_; }

  ReplyFormat format_;
  ReplyParserOptions options_;
  State state_ = State::kStart;
  std::string pending_;  // not taken yet
  ReplyDelta delta_;
  std::string space_;   // held back: white space that a mark may follow
  bool trims_ = false;  // white space that comes next is nobody's
  bool has_content_ = false;
  size_t n_calls_ = 0;
  // The call that is being read.
  bool tagged_ = false;  // a mark announced it
  bool in_list_ = false;
  bool begun_ = false;  // it was handed out
  std::string raw_;     // its text with the mark, until it was
  CallScanner scanner_;
  JsonValueScanner value_;
};

struct ParsedCall {
  std::string id;
  std::string name;
  std::string arguments;
};
struct ParsedReply {
  std::string content;
  std::string reasoning;
  std::vector<ParsedCall> calls;
  void Add(const ReplyDelta& delta);
};

// Takes a whole reply apart.
ParsedReply ParseReply(const ReplyFormat& format, const ReplyParserOptions& options,
                       std::string_view text);

}  // namespace thermocline
