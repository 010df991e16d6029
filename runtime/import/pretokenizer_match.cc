// Which of the pre-tokenizers that a GGUF can name cuts texts as a tokenizer.json says.
#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "runtime/import/imported_vocabulary.h"
#include "runtime/text/pretokenizer_table.h"
#include "runtime/text/utf8.h"

namespace thermocline {
namespace {

using Json = nlohmann::json;

// The same expression, written in other ways: by tokenizer.json's authors, and in our table.
struct Spelling {
  std::string_view theirs;
  std::string_view ours;
};
constexpr Spelling kSpellings[] = {
    {R"(\x{3040}-\x{309F}\x{30A0}-\x{30FF})", R"(\x{3040}-\x{30FF})"},
    {R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~])", R"([!-/:-@\[-`{-~])"},
    {R"((?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]))",
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d))"},
    {R"('(?i:[sdmt]|ll|ve|re))", R"((?i:'s|'t|'re|'ve|'m|'ll|'d))"},
    {R"([^\r\n\p{L}\p{N}]?+\p{L}+)", R"([^\r\n\p{L}\p{N}]?\p{L}+)"},
    {R"( ?[^\s\p{L}\p{N}]++[\r\n]*)", R"( ?[^\s\p{L}\p{N}]+[\r\n]*)"},
    {R"((?:\r?\n)+(?!\r?\n))", R"(\s*[\r\n]+)"},
};

// A step that has no expression of its own: Falcon's first.
constexpr std::string_view kContiguousPunctuation = "<punctuation>";

// Names for the same steps, of which the first that is among the candidates is taken.
constexpr std::string_view kUsualNames[] = {"gpt-2",     "llama-bpe", "dbrx",  "qwen2",
                                            "starcoder", "gpt-4o",    "tekken"};

// Characters beyond ASCII become "\x{4E00}".
std::string Escaped(const std::string& expression) {
  std::string escaped;
  for (size_t i = 0; i < expression.size();) {
    const auto first = static_cast<unsigned char>(expression[i]);
    const size_t n_bytes = first < 0x80 ? 1 : first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (n_bytes == 1 || i + n_bytes > expression.size()) {
      escaped += expression[i++];
      continue;
    }
    uint32_t code = first & (0x7fU >> n_bytes);
    for (size_t b = 1; b < n_bytes; ++b) {
      code = (code << 6) | (static_cast<unsigned char>(expression[i + b]) & 0x3fU);
    }
    escaped += fmt::format("\\x{{{:04X}}}", code);
    i += n_bytes;
  }
  return escaped;
}

std::string InOurSpelling(const std::string& expression) {
  std::string text = Escaped(expression);
  for (const Spelling& spelling : kSpellings) {
    for (size_t at = 0; (at = text.find(spelling.theirs, at)) != std::string::npos;) {
      text.replace(at, spelling.theirs.size(), spelling.ours);
      at += spelling.ours.size();
    }
  }
  return text;
}

std::string StringOf(const Json& object, const char* key, const std::string& fallback) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : fallback;
}

bool BoolOf(const Json& object, const char* key, bool fallback) {
  const auto found = object.find(key);
  return found != object.end() && found->is_boolean() ? found->get<bool>() : fallback;
}

std::string Gpt2Expression() { return FindPretokenizer("gpt-2")->steps.front().expression; }

// Appends a Split's expression. Returns false for what is no cutting into pieces that stay.
bool AppendSplit(const Json& step, std::vector<std::string>* steps) {
  const std::string behavior = StringOf(step, "behavior", "");
  const bool keeps_matches = behavior == "Removed" && BoolOf(step, "invert", false);
  const bool isolates = behavior == "Isolated" && !BoolOf(step, "invert", false);
  const auto pattern = step.find("pattern");
  if (!(keeps_matches || isolates) || pattern == step.end() || !pattern->is_object()) return false;
  const std::string regex = StringOf(*pattern, "Regex", "");
  if (regex.empty()) return false;
  steps->push_back(InOurSpelling(regex));
  return true;
}

// Appends the expressions that a pre-tokenizer stands for. Returns false where one is not known.
// REQUIRES: its nesting is bounded.
bool AppendSteps(const Json& step, std::vector<std::string>* steps) {
  if (!step.is_object()) return false;
  const std::string type = StringOf(step, "type", "");
  if (type == "Sequence") {
    const auto inner = step.find("pretokenizers");
    return inner != step.end() && inner->is_array() &&
           std::ranges::all_of(*inner, [&](const Json& one) { return AppendSteps(one, steps); });
  }
  if (type == "ByteLevel") {
    if (BoolOf(step, "add_prefix_space", true)) return false;
    if (BoolOf(step, "use_regex", true)) steps->push_back(Gpt2Expression());
    return true;
  }
  if (type == "Split") return AppendSplit(step, steps);
  if (type == "Digits") {
    steps->push_back(BoolOf(step, "individual_digits", false) ? R"(\p{N})" : R"(\p{N}+)");
    return true;
  }
  if (type == "Punctuation" && StringOf(step, "behavior", "") == "Contiguous") {
    steps->emplace_back(kContiguousPunctuation);
    return true;
  }
  return false;
}

bool IsFalcon(const std::vector<std::string>& steps) {
  return steps == std::vector<std::string>{std::string(kContiguousPunctuation), Gpt2Expression(),
                                           R"(\p{N}+)", "[0-9][0-9][0-9]"};
}

bool HasSteps(const PretokenizerInfo& info, const std::vector<std::string>& steps) {
  return std::ranges::equal(info.steps, steps, {},
                            [](const PretokenizerStep& step) { return step.expression; });
}

}  // namespace

std::optional<std::string> RecognisePretokenizer(const Json& tokenizer) {
  const auto found = tokenizer.find("pre_tokenizer");
  std::vector<std::string> steps;
  if (found == tokenizer.end() || !AppendSteps(*found, &steps)) return std::nullopt;
  if (IsFalcon(steps)) return "falcon";
  const auto model = tokenizer.find("model");
  const bool ignores = model != tokenizer.end() && BoolOf(*model, "ignore_merges", false);
  std::vector<std::string_view> names;
  for (const std::string_view name : PretokenizerNames()) {
    const auto info = FindPretokenizer(name);
    if (name == kDefaultPretokenizer || info->plain_pieces || info->ignore_merges != ignores) {
      continue;
    }
    if (HasSteps(*info, steps)) names.push_back(name);
  }
  if (names.empty()) return std::nullopt;
  for (const std::string_view usual : kUsualNames) {
    if (std::ranges::find(names, usual) != names.end()) return std::string(usual);
  }
  return std::string(names.front());
}

}  // namespace thermocline
