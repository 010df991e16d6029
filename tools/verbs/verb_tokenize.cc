// thermocline tokenize: which tokens a text is.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/core/error.h"
#include "runtime/gguf/gguf_reader.h"
#include "runtime/text/tokenizer.h"
#include "tools/verbs/cli_options.h"
#include "tools/verbs/verbs.h"

namespace thermocline {
namespace {

constexpr const char* kTokenizeDetails =
    R"(MODEL is any GGUF file with a vocabulary; nothing else of it is read. Prints a token a line, its id and its
text between quotes, in which \n, \t, \r, \\, \' and \xNN stand for what would not be seen as it is; of a
token that stands for no text its name. The text is taken byte for byte, with the line end at the end of a
file. Names of special tokens in it (<|im_end|>) become those tokens, and BOS stands in front where the
model wants it.

Examples:
  thermocline tokenize -m model.gguf -p "Once upon a time"
  thermocline tokenize -m model.gguf -f story.txt --ids
  echo -n "hello" | thermocline tokenize -m model.gguf --no-bos)";

struct TokenizeArgs {
  std::string model_path;
  std::optional<std::string> text;
  std::optional<std::string> text_path;
  bool ids_only = false;
  bool no_bos = false;
  bool no_special = false;
};

// Output is handed over in parts of about this size, so that a long text needs no second copy.
constexpr size_t kOutputBytes = size_t{1} << 16;

// Returns a token's text on one line.
std::string EscapedPiece(const std::string& piece) {
  std::string escaped;
  for (const char c : piece) {
    constexpr std::string_view kEscaped = "\n\t\r\\'";
    constexpr std::string_view kLetters = "ntr\\'";
    const size_t at = kEscaped.find(c);
    if (at != std::string_view::npos) escaped += '\\';
    escaped += at == std::string_view::npos ? c : kLetters[at];
  }
  return Printable(escaped, 4 * escaped.size());
}

void PrintTokens(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  std::string lines;
  for (const int32_t id : ids) {
    lines += fmt::format("{:>6}  '{}'\n", id, EscapedPiece(tokenizer.TokenName(id)));
    if (lines.size() < kOutputBytes) continue;
    WriteOutput(lines);
    lines.clear();
  }
  WriteOutput(lines);
}

void Tokenize(const TokenizeArgs& args) {
  const auto tokenizer = MakeTokenizer(GgufReader(args.model_path));
  const std::string text = args.text ? *args.text : ReadTextFile(args.text_path.value_or("-"));
  const bool parse_special = !args.no_special;
  const std::vector<int32_t> ids = args.no_bos ? tokenizer->Encode(text, parse_special)
                                               : tokenizer->EncodePrompt(text, parse_special);
  if (args.ids_only) {
    WriteOutput(fmt::format("{}\n", fmt::join(ids, " ")));
  } else {
    PrintTokens(*tokenizer, ids);
  }
}

}  // namespace

void AddTokenizeVerb(CLI::App& app) {
  const auto args = std::make_shared<TokenizeArgs>();
  CLI::App* verb = AddVerb(app, "tokenize", "Shows the tokens of a text", kTokenizeDetails);
  verb->add_option("-m,--model", args->model_path, "GGUF file with a vocabulary")
      ->required()
      ->type_name("MODEL");
  CLI::Option* text =
      verb->add_option("-p,--prompt", args->text, "Text to encode")->type_name("TEXT");
  verb->add_option("-f,--file", args->text_path,
                   "File with the text; - or neither -p nor -f: standard input")
      ->type_name("FILE")
      ->excludes(text);
  verb->add_flag("--ids", args->ids_only, "Print the ids alone, on one line");
  verb->add_flag("--no-bos", args->no_bos, "Put no BOS in front");
  verb->add_flag("--no-special", args->no_special, "Take names of special tokens as text");
  verb->callback([args] { Tokenize(*args); });
}

}  // namespace thermocline
