// What a client wants written, whichever API it spoke, and what has been written of it so far.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "runtime/sampling/sampler_options.h"
#include "runtime/schedule/request.h"
#include "tools/serve/api_error.h"

namespace thermocline {

enum class Api : unsigned char {
  kNative,           // /completion, as llama.cpp's server has it
  kTextCompletions,  // OpenAI's /v1/completions
  kChat,             // OpenAI's /v1/chat/completions
  kResponses,        // OpenAI's /v1/responses
  kMessages,         // Anthropic's /v1/messages
};

struct ToolCall {
  std::string id;
  std::string name;
  std::string arguments;  // JSON
};

// What a reply has grown by, in parts.
struct ReplyDelta {
  struct Call {
    size_t index = 0;
    std::string id = {};    // with the first piece of a call
    std::string name = {};  // with the first piece of a call
    std::string arguments = {};
  };
  std::string content = {};
  std::string reasoning = {};
  std::vector<Call> calls = {};
  bool empty() const { return content.empty() && reasoning.empty() && calls.empty(); }
};

// Tells the parts of a reply apart while it is written: what a model thinks, what it says, and
// calls of tools. Called on the scheduler's thread, for one continuation.
class ReplyReader {
 public:
  virtual ~ReplyReader() = default;
  virtual ReplyDelta Push(std::string_view text) = 0;
  virtual ReplyDelta Finish() = 0;  // what was held back
};

struct GenerationSpec {
  Api api = Api::kNative;
  std::vector<std::vector<int32_t>> prompts;  // one or more; ids
  SamplerOptions sampler;
  int32_t n = 1;            // continuations of each prompt
  int64_t max_tokens = -1;  // of each; -1: no limit
  std::vector<std::string> stop;
  std::vector<int32_t> ends;  // tokens that end a reply, beside the vocabulary's
  std::shared_ptr<const TokenMask> mask;  // null: any text
  std::string grammar;                    // the mask's source, where a client gave it
  // Makes what reads one reply; null: all of it is content.
  std::function<std::unique_ptr<ReplyReader>()> make_reader;
  int32_t slot = -1;
  int64_t n_keep = 0;
  int64_t n_probs = 0;  // likeliest tokens to tell of; 0: none
  bool wants_probs = false;
  bool after_sampling = false;
  bool stream = false;
  bool include_usage = false;
  bool cache_prompt = true;
  bool ignore_eos = false;
  bool return_tokens = false;
  bool return_progress = false;
  bool timings_per_token = false;
  bool verbose = false;
  bool echo = false;
  std::vector<std::string> response_fields;
  Json echoed = Json::object();  // members of the request that an answer repeats
};

// A token that was written, for who wants probabilities.
struct TokenRecord {
  int32_t id = 0;
  float logprob = 0;
  std::vector<TokenProb> likeliest;
};

enum class StopKind : unsigned char { kNone, kEndOfText, kLimit, kWord };

// One continuation.
struct Choice {
  int32_t index = 0;
  size_t prompt = 0;  // of the spec's
  std::string content;
  std::string reasoning;
  std::vector<ToolCall> calls;
  std::string text;  // all of it, as it was written
  std::vector<int32_t> ids;
  std::vector<TokenRecord> records;  // where probabilities are wanted
  StopKind stop = StopKind::kNone;
  std::string stopping_word;
  bool context_full = false;
  bool ended = false;
  RunStats stats;
};

}  // namespace thermocline
