// What a client wants written, whichever API it spoke, and what has been written of it so far.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "runtime/reply/reply_parser.h"
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

// How a reply is taken apart while it is written.
struct ReplyReading {
  ReplyFormat format;
  ReplyParserOptions options;
  // Control tokens whose names its parser must see.
  std::unordered_map<int32_t, std::string> spoken;
};

struct GenerationSpec {
  Api api = Api::kNative;
  std::vector<std::vector<int32_t>> prompts;  // one or more; ids
  SamplerOptions sampler;
  bool has_seed = false;    // the seed was given, not drawn
  int32_t n = 1;            // continuations of each prompt
  int64_t max_tokens = -1;  // of each; -1: no limit
  std::vector<std::string> stop;
  std::vector<int32_t> ends;              // tokens that end a reply, beside the vocabulary's
  std::shared_ptr<const TokenMask> mask;  // null: any text
  std::string grammar;                    // the mask's source, where a client gave it
  // How a reply's parts are told apart; nullopt: all of it is content.
  std::optional<ReplyReading> reading;
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
  ApiJson echoed = ApiJson::object();  // members of the request that an answer repeats
};

// A token that was written, for who wants probabilities.
struct TokenRecord {
  int32_t id = 0;
  float logprob = 0;
  std::vector<TokenProb> likeliest;
};

enum class StopKind : unsigned char { kNone, kEndOfText, kLimit, kWord };

// One continuation: what it says, and how it stands.
struct Choice : ParsedReply {
  int32_t index = 0;
  size_t prompt = 0;  // of the spec's
  std::string text;   // all of it, as it was written
  std::vector<int32_t> ids;
  std::vector<TokenRecord> records;  // where probabilities are wanted
  StopKind stop = StopKind::kNone;
  std::string stopping_word;
  bool context_full = false;
  RunStats stats;
};

}  // namespace thermocline
