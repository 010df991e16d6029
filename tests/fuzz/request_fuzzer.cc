// A libFuzzer harness of the bodies of requests: the first byte says of which API, the rest is the
// body. Whatever the bytes, there is an ApiError with a status, which names no flag, or a request
// that the scheduler's checks take: ids of the vocabulary, numbers within their bounds.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "runtime/chat/named_templates.h"
#include "runtime/core/error.h"
#include "runtime/sampling/sampler_options.h"
#include "tools/serve/infill.h"
#include "tools/serve/request_parser.h"

namespace thermocline {
namespace {

struct Parts {
  Parts()
      : gguf(std::string(THERMOCLINE_SOURCE_DIR) + "/tools/demo.d/classics-9m-relu-q8_0.gguf"),
        tokenizer(MakeTokenizer(gguf)),
        chat({.source = std::string(*NamedTemplate("chatml")), .name = "chatml"}, *tokenizer,
             Thinking::kAuto),
        constraints(*tokenizer),
        parser(*tokenizer, chat, constraints, defaults) {}

  GgufReader gguf;
  std::unique_ptr<Tokenizer> tokenizer;
  RequestDefaults defaults;
  ChatPrompts chat;
  Constraints constraints;
  RequestParser parser;
};

void Expect(bool holds) {
  if (!holds) std::abort();
}

GenerationSpec Parse(const Parts& parts, uint8_t api, const ApiJson& body) {
  switch (api % 6) {
    case 0:
      return parts.parser.Native(body);
    case 1:
      return parts.parser.TextCompletions(body);
    case 2:
      return parts.parser.Chat(body);
    case 3:
      return parts.parser.Responses(body);
    case 4:
      return parts.parser.Messages(body);
    default: {
      const InfillTokens tokens = {.prefix = 3, .suffix = 4, .middle = 5, .file = 6};
      GenerationSpec spec;
      spec.prompts = {InfillPrompt(Fields(body), tokens, *parts.tokenizer)};
      return spec;
    }
  }
}

void UseSpec(const Parts& parts, const GenerationSpec& spec) {
  Expect(!spec.prompts.empty() && spec.n >= 1 && spec.max_tokens >= -1);
  for (const std::vector<int32_t>& prompt : spec.prompts) {
    for (const int32_t id : prompt) Expect(id >= 0 && id < parts.tokenizer->vocab_size());
  }
  for (const auto& [id, bias] : spec.sampler.logit_bias) {
    Expect(id >= 0 && id < parts.tokenizer->vocab_size() && !(bias != bias));
  }
  Validate(spec.sampler);  // throws nothing
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Parts parts;
  if (size == 0) return 0;
  const std::string_view body(reinterpret_cast<const char*>(data) + 1, size - 1);
  std::optional<GenerationSpec> spec;
  try {
    spec = Parse(parts, data[0], ParseBody(body));
  } catch (const ApiError& error) {
    Expect(error.status() >= 400 && error.status() <= 501);
    Expect(error.Object().contains("error") && !Dump(error.Object()).empty());
  } catch (const Error& error) {
    Expect(!std::string_view(error.what()).empty());
  }
  if (spec) UseSpec(parts, *spec);
  return 0;
}

}  // namespace thermocline
