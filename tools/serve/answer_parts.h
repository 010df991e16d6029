// What the answers of several APIs have in common.
#pragma once

#include <span>
#include <string>

#include "tools/serve/answer.h"

namespace thermocline {

// What the version of an answer's maker is: "b...".
inline constexpr const char* kSystemFingerprint = "b1-thermocline";

// "data: {...}\n\n", with "event: NAME\n" before it where there is a name.
std::string Event(const ApiJson& data, const char* name = nullptr);
inline constexpr const char* kDoneEvent = "data: [DONE]\n\n";

// Speeds of a request: {"prompt_n": ..., "predicted_per_second": ...}.
ApiJson TimingsJson(const RunStats& stats);
// {"total", "cache", "processed", "time_ms"}
ApiJson ProgressJson(const RunStats& stats);
// OpenAI's usage, of all choices; a prompt counts once for its continuations.
ApiJson UsageJson(const GenerationSpec& spec, std::span<const Choice> choices);
// Anthropic's and the responses' numbers: (prompt, cached, written).
struct TokenCounts {
  int64_t prompt = 0;
  int64_t cached = 0;
  int64_t written = 0;
};
TokenCounts CountTokens(const GenerationSpec& spec, std::span<const Choice> choices);

// [{"id", "token", "bytes", "logprob", "top_logprobs": [...]}, ...]
ApiJson RecordsJson(const AnswerContext& context, std::span<const TokenRecord> records);
// The last token's, where probabilities are wanted; else null.
ApiJson LastRecordJson(const AnswerContext& context, const Choice& choice);

// "eos", "limit", "word", "none"
const char* StopKindName(StopKind kind);
// OpenAI's: "stop", "length", "tool_calls"
const char* FinishReason(const Choice& choice);

// The answer of /completion for one choice; also what `verbose` adds to others.
ApiJson NativeJson(const AnswerContext& context, const Choice& choice);
// The settings that a request ran with.
ApiJson SettingsJson(const GenerationSpec& spec);

// The text of ids, control tokens by their names.
std::string TextWithNames(const Tokenizer& tokenizer, std::span<const int32_t> ids);

}  // namespace thermocline
