#include "tools/serve/answer_parts.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "runtime/text/utf8.h"

namespace thermocline {
namespace {

double PerSecond(double n, double ms) { return n > 0 && ms > 0 ? n * 1e3 / ms : 0; }

ApiJson BytesJson(std::string_view bytes) {
  ApiJson list = ApiJson::array();
  for (const char c : bytes) list.push_back(static_cast<unsigned char>(c));
  return list;
}

// A token's name, bytes and probability. Probability 0 has no finite logarithm, and JSON no
// infinity.
ApiJson TokenJson(const AnswerContext& context, int32_t id, float logprob) {
  const std::string bytes = context.tokenizer->TokenBytes(id);
  ApiJson json = {{"id", id}, {"token", ReplaceInvalidUtf8(bytes)}, {"bytes", BytesJson(bytes)}};
  if (context.spec->after_sampling) {
    json["prob"] = std::exp(static_cast<double>(logprob));
  } else {
    json["logprob"] = std::isfinite(logprob) ? logprob : std::numeric_limits<float>::lowest();
  }
  return json;
}

}  // namespace

std::string Event(const ApiJson& data, const char* name) {
  std::string event;
  if (name != nullptr) event = fmt::format("event: {}\n", name);
  event += "data: ";
  event += Dump(data);
  event += "\n\n";
  return event;
}

ApiJson TimingsJson(const RunStats& stats) {
  const int64_t prompt_n =
      std::min(stats.processed_tokens, stats.prompt_tokens - stats.cached_tokens);
  const double prompt_ms = prompt_n > 0 ? stats.prompt_ms : 0;
  // The first token comes from the prompt's last pass: it takes none of its own.
  const auto n_decoded = static_cast<double>(std::max<int64_t>(0, stats.generated_tokens - 1));
  ApiJson timings = {
      {"cache_n", stats.cached_tokens},
      {"prompt_n", prompt_n},
      {"prompt_ms", prompt_ms},
      {"prompt_per_token_ms", prompt_n > 0 ? prompt_ms / static_cast<double>(prompt_n) : 0},
      {"prompt_per_second", PerSecond(static_cast<double>(prompt_n), prompt_ms)},
      {"predicted_n", stats.generated_tokens},
      {"predicted_ms", stats.decode_ms},
      {"predicted_per_token_ms", n_decoded > 0 ? stats.decode_ms / n_decoded : 0},
      {"predicted_per_second", PerSecond(n_decoded, stats.decode_ms)}};
  if (stats.n_drafted > 0) {
    timings["draft_n"] = stats.n_drafted;
    timings["draft_n_accepted"] = stats.n_draft_accepted;
  }
  return timings;
}

ApiJson ProgressJson(const RunStats& stats) {
  return {
      {"total", stats.prompt_tokens},
      {"cache", stats.cached_tokens},
      {"processed", std::min(stats.prompt_tokens, stats.cached_tokens + stats.processed_tokens)},
      {"time_ms", stats.prompt_ms}};
}

TokenCounts CountTokens(const GenerationSpec& spec, std::span<const Choice> choices) {
  TokenCounts counts;
  for (const Choice& choice : choices) {
    counts.written += choice.stats.generated_tokens;
    if (choice.index % spec.n != 0) continue;
    counts.prompt += choice.stats.prompt_tokens;
    counts.cached += choice.stats.cached_tokens;
  }
  return counts;
}

ApiJson UsageJson(const GenerationSpec& spec, std::span<const Choice> choices) {
  const TokenCounts counts = CountTokens(spec, choices);
  return {{"completion_tokens", counts.written},
          {"prompt_tokens", counts.prompt},
          {"total_tokens", counts.written + counts.prompt},
          {"prompt_tokens_details", {{"cached_tokens", counts.cached}}}};
}

ApiJson RecordsJson(const AnswerContext& context, std::span<const TokenRecord> records) {
  const char* top = context.spec->after_sampling ? "top_probs" : "top_logprobs";
  ApiJson list = ApiJson::array();
  for (const TokenRecord& record : records) {
    ApiJson json = TokenJson(context, record.id, record.logprob);
    ApiJson& others = json[top] = ApiJson::array();
    for (const TokenProb& other : record.likeliest) {
      others.push_back(TokenJson(context, other.id, other.logprob));
    }
    list.push_back(std::move(json));
  }
  return list;
}

ApiJson LastRecordJson(const AnswerContext& context, const Choice& choice) {
  if (!context.spec->wants_probs || choice.records.empty()) return nullptr;
  return RecordsJson(context, std::span(choice.records).last(1));
}

const char* StopKindName(StopKind kind) {
  switch (kind) {
    case StopKind::kEndOfText:
      return "eos";
    case StopKind::kLimit:
      return "limit";
    case StopKind::kWord:
      return "word";
    default:
      return "none";
  }
}

const char* FinishReason(const Choice& choice) {
  if (choice.stop == StopKind::kLimit) return "length";
  return choice.calls.empty() ? "stop" : "tool_calls";
}

std::string TextWithNames(const Tokenizer& tokenizer, std::span<const int32_t> ids) {
  std::string text;
  for (const int32_t id : ids) text += tokenizer.TokenName(id);
  return ReplaceInvalidUtf8(text);
}

}  // namespace thermocline
