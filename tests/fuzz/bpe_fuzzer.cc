// A libFuzzer harness of byte-level BPE: whatever a file says of its vocabulary, there is an Error
// or a tokenizer, and whatever the text, a tokenizer with all bytes that does not normalise gives
// it back. A text in a form of Unicode's stays as it is when it is put into that form again.
//
// An input is a small language, so that it need not be a whole GGUF: a byte that chooses the
// pre-tokenizer, a line of merges with ',' between them, lines "TYPE NAME" of further tokens up to
// an empty line, and the text behind that.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/gguf/gguf_reader.h"
#include "runtime/text/byte_level.h"
#include "runtime/text/tokenizer.h"
#include "runtime/text/unicode_form.h"
#include "tests/fuzz/use_tokenizer.h"
#include "tests/gguf/gguf_bytes.h"

namespace {

using thermocline::GgufBytes;
using thermocline::GgufReader;
using thermocline::GgufType;
using thermocline::Tokenizer;

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

void AddStrings(const char* key, const std::vector<std::string>& strings, GgufBytes* file) {
  file->KeyArray(key, GgufType::kString, strings.size());
  for (const std::string& text : strings) file->text(text);
}

// Takes a vocabulary off the front of *rest and returns a GGUF file that holds it.
std::string TakeVocabulary(std::string_view* rest) {
  const auto chosen = rest->empty() ? 0 : static_cast<uint8_t>(rest->front());
  rest->remove_prefix(rest->empty() ? 0 : 1);
  std::vector<std::string> merges;
  const std::string line = TakeUntil('\n', rest);
  for (std::string_view left = line; !left.empty();) merges.push_back(TakeUntil(',', &left));
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) {
    tokens.emplace_back(thermocline::ByteLevelChar(static_cast<uint8_t>(byte)));
  }
  std::vector<uint32_t> types(tokens.size(), 1);
  for (std::string token; !(token = TakeUntil('\n', rest)).empty();) {
    types.push_back(token[0] >= '0' && token[0] <= '9' ? token[0] - '0' : 1);
    tokens.push_back(token.substr(std::min<size_t>(2, token.size())));
  }
  GgufBytes file;
  file.header(/*n_tensors=*/0, /*n_keys=*/6).KeyText("tokenizer.ggml.model", "gpt2");
  file.KeyText("tokenizer.ggml.pre", kPretokenizerNames[chosen % std::size(kPretokenizerNames)]);
  file.KeyText("thermocline.tokenizer.normalizer", "none");
  AddStrings("tokenizer.ggml.tokens", tokens, &file);
  AddStrings("tokenizer.ggml.merges", merges, &file);
  file.KeyArray("tokenizer.ggml.token_type", GgufType::kU32, types.size());
  for (const uint32_t type : types) file.u32(type);
  return file.pad().bytes();
}

void UseTokenizer(const Tokenizer& tokenizer, const std::string& text) {
  if (tokenizer.Decode(thermocline::EncodeTwice(tokenizer, text)) != text) std::abort();
}

void UseForms(const std::string& text) {
  using thermocline::UnicodeForm;
  for (const UnicodeForm form :
       {UnicodeForm::kNfc, UnicodeForm::kNfd, UnicodeForm::kNfkc, UnicodeForm::kNfkd}) {
    std::string first;
    std::string second;
    const std::string once(thermocline::ToUnicodeForm(text, form, &first));
    if (thermocline::ToUnicodeForm(once, form, &second) != once) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  UseForms(std::string(rest));
  thermocline::ExpectOneLineErrors([&] {
    const std::string file = TakeVocabulary(&rest);
    const GgufReader gguf(thermocline::AsBytes(file), "fuzz.gguf");
    UseTokenizer(*thermocline::MakeTokenizer(gguf), std::string(rest));
  });
  return 0;
}
