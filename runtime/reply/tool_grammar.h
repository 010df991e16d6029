// Grammars that make a model call tools as its format has it, or keep an answer to a JSON schema
// behind its reasoning.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/grammar/grammar_vocabulary.h"
#include "runtime/grammar/schema_error.h"
#include "runtime/reply/reply_format.h"

namespace thermocline {

struct Tool {
  std::string name;
  SchemaJson parameters = SchemaJson::object();  // a JSON schema; {}: any object
};

// Reads OpenAI's list of tools: [{"type": "function", "function": {"name": ..., "parameters":
// ...}}]. Throws Error for others, and for names other than 1 to 64 of [a-zA-Z0-9_.-].
std::vector<Tool> ReadTools(const SchemaJson& tools);

struct ToolChoice {
  enum class Kind : uint8_t {
    kNone,      // no call
    kAuto,      // a call or text
    kRequired,  // a call of any tool
    kNamed,     // a call of `name`
  };
  Kind kind = Kind::kAuto;
  std::string name = {};
};
// Reads OpenAI's tool_choice: "none", "auto", "required" or {"type": "function", "function":
// {"name": ...}}; null is auto. Throws Error.
ToolChoice ReadToolChoice(const SchemaJson& choice);

inline constexpr int kMaxParallelCalls = 16;

// Returns a grammar of replies; empty: nothing needs to be constrained (no call, or a format whose
// calls no mark announces and that need not call). parallel: several calls may follow each other.
// vocabulary: tells which marks are single tokens. Throws Error for a tool that is not there and
// for parameters that cannot be kept (json_schema.h).
std::string ToolCallGbnf(const std::vector<Tool>& tools, const ToolChoice& choice, bool parallel,
                         const ReplyFormat& format, const GrammarVocabulary& vocabulary);

// Returns a grammar of answers in JSON, behind reasoning where the model marks such. schema: null
// for any object.
std::string JsonAnswerGbnf(const SchemaJson& schema, const ReplyFormat& format,
                           const GrammarVocabulary& vocabulary);

}  // namespace thermocline
