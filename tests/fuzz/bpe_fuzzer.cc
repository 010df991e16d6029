// A libFuzzer harness of byte-level BPE: whatever a file says of its vocabulary, there is an Error
// or a tokenizer, and whatever the text, a tokenizer with all bytes gives it back.
//
// An input is a small language, so that it need not be a whole GGUF: a byte that chooses the
// pre-tokenizer, a line of merges with ',' between them, lines "TYPE NAME" of further tokens up to
// an empty line, and the text behind that.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/core/error.h"
#include "runtime/text/tokenizer.h"
#include "tests/text/test_vocabulary.h"

namespace {

using thermocline::GgufValue;
using thermocline::Keys;
using thermocline::Tokenizer;
using thermocline::TokenType;

constexpr const char* kPretokenizerNames[] = {"gpt-2",        "llama-bpe", "qwen2",    "gpt-4o",
                                              "deepseek-llm", "tiny_aya",  "falcon",   "kimi-k2",
                                              "exaone-moe",   "viking",    "chameleon"};

// Takes what stands before the first `end`, or everything, off the front of *rest.
std::string TakeUntil(char end, std::string_view* rest) {
  const size_t size = std::min(rest->find(end), rest->size());
  std::string taken(rest->substr(0, size));
  rest->remove_prefix(std::min(size + 1, rest->size()));
  return taken;
}

Keys ReadKeys(std::string_view* rest) {
  const auto chosen = rest->empty() ? 0 : static_cast<uint8_t>(rest->front());
  rest->remove_prefix(rest->empty() ? 0 : 1);
  std::vector<std::string> merges;
  const std::string line = TakeUntil('\n', rest);
  for (std::string_view left = line; !left.empty();) merges.push_back(TakeUntil(',', &left));
  Keys keys = thermocline::BpeKeys({});
  keys["tokenizer.ggml.merges"] = thermocline::StringArray(std::move(merges));
  keys["tokenizer.ggml.pre"] =
      GgufValue::string(kPretokenizerNames[chosen % std::size(kPretokenizerNames)]);
  while (true) {
    const std::string token = TakeUntil('\n', rest);
    if (token.empty()) return keys;
    const int type = token[0] >= '0' && token[0] <= '9' ? token[0] - '0' : 1;
    thermocline::AddToken(&keys, token.substr(std::min<size_t>(2, token.size())),
                          static_cast<TokenType>(type));
  }
}

void UseTokenizer(const Tokenizer& tokenizer, const std::string& text) {
  const std::vector<int32_t> ids = tokenizer.Encode(text);
  if (tokenizer.Decode(ids) != text) std::abort();
  if (tokenizer.Encode(text) != ids) std::abort();  // now from the cache
  for (const int32_t id : tokenizer.Encode(text, /*parse_special=*/true)) {
    if (id < 0 || id >= tokenizer.vocab_size()) std::abort();
    (void)tokenizer.TokenName(id);
    (void)tokenizer.EndsText(id);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  try {
    const Keys keys = ReadKeys(&rest);
    UseTokenizer(*thermocline::TokenizerFromKeys(keys), std::string(rest));
  } catch (const thermocline::Error& error) {
    for (const char* c = error.what(); *c != '\0'; ++c) {
      if (static_cast<unsigned char>(*c) < 0x20) std::abort();  // not one line
    }
  }
  return 0;
}
