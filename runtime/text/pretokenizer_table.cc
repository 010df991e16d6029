#include "runtime/text/pretokenizer_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

namespace thermocline {
namespace {

using Steps = std::vector<PretokenizerStep>;

// ---- what several expressions share ----

constexpr char kContraction[] = R"((?i:'s|'t|'re|'ve|'m|'ll|'d))";
constexpr char kWord[] = R"([^\r\n\p{L}\p{N}]?\p{L}+)";
constexpr char kSigns[] = R"( ?[^\s\p{L}\p{N}]+[\r\n]*)";
constexpr char kSignsAndPaths[] = R"( ?[^\s\p{L}\p{N}]+[\r\n/]*)";
constexpr char kLineEnds[] = R"(\s*[\r\n]+)";
constexpr char kSpaces[] = R"(\s+(?!\S)|\s+)";  // but for the one before a word

// GPT-2's: contractions, then runs of letters, of digits and of other signs, each with a space.
constexpr char kGpt2[] =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// Han and the two kana of deepseek-v3, and what is left when they and the digits are cut out.
constexpr char kHanAndKana[] = R"([\x{4E00}-\x{9FA5}\x{3040}-\x{30FF}]+)";
constexpr char kDeepseekRest[] = R"([!-/:-@\[-`{-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+)"
                                 R"(| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

constexpr char kSparkRest[] = R"([!-/:-@\[-`{-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+)"
                              R"(| ?[\p{P}\p{S}]+|[\r\n]|\s+(?!\S)|\s+)";

// Han, Hangul and what lies between, as deepseek's first tokenizers have it.
constexpr char kEastAsian[] = R"([\x{0800}-\x{9FA5}\x{AC00}-\x{D7FF}]+)";

// deepseek-llm lists the letters that have a case, as far as Unicode 11 and some blocks go: all
// cased ones but those behind \p{C} here.
constexpr char kDeepseekCased[] =
    R"(\s?[^\p{Lm}\p{Lo}\p{M}\p{N}\p{P}\p{S}\p{Z}\p{C}\x{560}-\x{588}\x{10C7}\x{10CD})"
    R"(\x{10D0}-\x{10FF}\x{1C80}-\x{1C88}\x{2D00}-\x{2D2D}\x{A790}-\x{A7FA}\x{AB30}-\x{AB68})"
    R"(\x{10570}-\x{105BC}\x{16E40}-\x{16E7F}\x{1D400}-\x{1D7CB}\x{1DF00}-\x{1DF1E}]+)";

// bloom: words up to a space or the end of a clause.
constexpr char kBloom[] =
    R"( ?[^(\s|.,!?\x{2026}\x{3002}\x{FF0C}\x{3001}\x{0964}\x{06D4}\x{060C})]+)";

// ---- families of expressions ----

// Words, digits, signs, line ends and spaces: the shape of GPT-4's expression (cl100k) and its kin.
Steps Gpt4Like(std::string_view words, std::string_view digits, std::string_view signs = kSigns,
               std::string_view line_ends = kLineEnds, std::string_view spaces = kSpaces) {
  return {{fmt::format("{}|{}|{}|{}|{}", words, digits, signs, line_ends, spaces)}};
}

Steps Llama3() { return Gpt4Like(fmt::format("{}|{}", kContraction, kWord), R"(\p{N}{1,3})"); }
Steps Qwen2() { return Gpt4Like(fmt::format("{}|{}", kContraction, kWord), R"(\p{N})"); }

// The words of GPT-4o: a run of upper case and then lower case letters, so that "camelCase" is two.
// upper, lower: the letters, with those that have no case in both. ending: what a word may end
// with.
std::string CasedWords(std::string_view upper, std::string_view lower, std::string_view ending) {
  constexpr char kPrefix[] = R"([^\r\n\p{L}\p{N}]?)";
  return fmt::format("{0}{1}*{2}+{3}|{0}{1}+{2}*{3}", kPrefix, upper, lower, ending);
}

constexpr char kUpper[] = R"([\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}])";
constexpr char kLower[] = R"([\p{Ll}\p{Lm}\p{Lo}\p{M}])";
// The same without Han, as what is no such letter: classes cannot be subtracted.
constexpr char kUpperNotHan[] = R"([^\p{Ll}\p{N}\p{P}\p{S}\p{Z}\p{C}\p{Han}])";
constexpr char kLowerNotHan[] = R"([^\p{Lu}\p{Lt}\p{N}\p{P}\p{S}\p{Z}\p{C}\p{Han}])";

std::string Gpt4oWords() { return CasedWords(kUpper, kLower, fmt::format("{}?", kContraction)); }
Steps Gpt4o() { return Gpt4Like(Gpt4oWords(), R"(\p{N}{1,3})", kSignsAndPaths); }
Steps Tekken() { return Gpt4Like(CasedWords(kUpper, kLower, ""), R"(\p{N})", kSignsAndPaths); }

Steps KimiK2() {
  const std::string words =
      CasedWords(kUpperNotHan, kLowerNotHan, fmt::format("{}?", kContraction));
  return Gpt4Like(fmt::format(R"(\p{{Han}}+|{})", words), R"(\p{N}{1,3})");
}

Steps Youtu() {
  Steps steps = Gpt4Like(Gpt4oWords(), R"(\p{N})", kSignsAndPaths);
  steps.insert(
      steps.begin(),
      {R"([\x{AC00}-\x{D7A3}\x{3131}-\x{318E}]+)"
       R"(|[\x{FF01}\x{2026}\x{201C}\x{201D}\x{2018}\x{2019}\x{2014}\x{FF1A}\x{FF1B}\x{FF0C})"
       R"(\x{3001}-\x{303F}\x{FE30}-\x{FE4F}]+|[\x{3105}-\x{312F}]+)"
       R"(|[\x{4E00}-\x{9FA5}\x{3040}-\x{30FF}]+)"});
  return steps;
}

Steps TinyAya() {
  Steps steps = Gpt4o();
  // Not the digits of "1234abc": no word ends behind them.
  constexpr char kNumber[] =
      R"((?<!\d)\d++(?![\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\x{24B6}-\x{24E9}\x{1F130}-\x{1F149})"
      R"(\x{1F150}-\x{1F169}\x{1F170}-\x{1F189}]))";
  steps.insert(steps.begin(), {kNumber, /*by_threes=*/true});
  return steps;
}

Steps Qwen35() {
  return Gpt4Like(fmt::format(R"({}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+)", kContraction),
                  R"(\p{N})", R"( ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*)");
}

Steps SeedCoder() {
  return Gpt4Like(fmt::format("{}|{}", kContraction, kWord), R"(\p{N})",
                  R"( ?[^\s\p{L}\p{N}\r\n]+)");
}

Steps BailingMoe() {
  return Gpt4Like(fmt::format("{}|{}", kContraction, kWord), R"(\p{N})", kSigns, R"(\s*[\r\n])");
}

// Words that are single letters ("a b c") stay together.
Steps ExaoneMoe() {
  constexpr char kSpelled[] = R"([^\r\n\p{L}\p{N}]?\p{L}(?:[\p{L}\p{M}]| \p{L})*+)";
  return Gpt4Like(fmt::format("{}|{}", kContraction, kSpelled), R"(\p{N})",
                  R"( ?[^\s\p{L}\p{N}]+[\r\n/]?)", R"(\s*[\r\n])");
}

// Long runs of spaces are cut into powers of two.
Steps Jais2() {
  std::string spaces;
  for (int n = 512; n >= 4; n /= 2) spaces += fmt::format(R"(\s{{{}}}(?!\S)|)", n);
  return Gpt4Like(fmt::format("{}|{}", kContraction, kWord), R"(\p{N}{1,3})", kSigns, kLineEnds,
                  spaces + R"(\s{1,2}(?!\S)|\s)");
}

// Gemma 4 has no words: merges go over whole lines, whose spaces are U+2581.
Steps Lines() { return {{R"([^\n]+|\n+)"}}; }

Steps Laguna() {
  Steps steps = Qwen2();
  steps.insert(steps.begin(), Lines().front());
  return steps;
}

// Qwen 2's without English contractions.
Steps Ufakzeka() { return Gpt4Like(kWord, R"(\p{N})"); }

// Llama 3's, behind its digits in threes.
Steps Minicpm5() {
  Steps steps = Gpt4Like(fmt::format("{}|{}", kContraction, kWord), R"(\p{N}+)");
  steps.insert(steps.begin(), {R"(\p{N}{1,3})"});
  return steps;
}

// deepseek-v3's with line ends one by one and digits one by one.
Steps Spark25() { return {{R"(\p{N}{1,3})"}, {kHanAndKana}, {kSparkRest}, {R"(\p{N})"}}; }

Steps Gpt2() { return {{kGpt2}}; }
Steps DigitsAndGpt2() { return {{R"(\p{N})"}, {kGpt2}}; }
Steps Bloom() { return {{kBloom}}; }
Steps Viking() { return {{kBloom}, {R"(\p{N})"}}; }
Steps Falcon() { return {{R"([\p{P}$+<=>^~|`]+)"}, {kGpt2}, {"[0-9][0-9][0-9]"}}; }
Steps DeepseekV3() { return {{R"(\p{N}{1,3})"}, {kHanAndKana}, {kDeepseekRest}}; }

Steps DeepseekCoder() {
  return {{R"([\r\n])"}, {R"(\s?\p{L}+)"}, {R"(\s?\p{P}+)"}, {kEastAsian}, {R"(\p{N})"}};
}

Steps DeepseekLlm() {
  return {{R"([\r\n])"},
          {kDeepseekCased},
          {R"(\s?[!-/:-~\x{FF01}-\x{FF0F}\x{FF1A}-\x{FF5E}\x{2018}-\x{201F}\x{3000}-\x{3002}]+)"},
          {R"((?<!\s)\s++\z)"},
          {kEastAsian},
          {R"(\p{N})"}};
}

Steps Afmoe() {
  return {{R"(\p{Nd}++)", /*by_threes=*/true},
          {R"([\x{4E00}-\x{9FFF}\x{3400}-\x{4DBF}\x{F900}-\x{FAFF}\x{3040}-\x{30FF})"
           R"(\x{FF65}-\x{FF9F}\x{2F00}-\x{2FDF}\x{E40}-\x{EFF}\x{1780}-\x{17FF}\x{1000}-\x{109F})"
           R"(\x{AA60}-\x{AA7F}\x{A9E0}-\x{A9FF}\x{AC00}-\x{D7AF}\x{1100}-\x{11FF}]+)"},
          {kDeepseekRest}};
}

Steps Chameleon() {
  return {{"<sentinel:[0-9]+>"}, {"IMGIMG[A-I]{1,4}Z"},       {R"([\t\n]|    |  )"},
          {R"(\p{N})"},          {R"([\p{P}!-/:-@\[-`{-~])"}, {kGpt2}};
}

// SuperBPE has words of several words: only numbers are cut out.
Steps SuperBpe() { return {{R"(\p{N}+)"}, {R"(\d++)", /*by_threes=*/true}}; }

// ---- names ----

struct PretokenizerRow {
  std::string_view name;
  Steps (*steps)();
  bool ignore_merges = false;
  bool add_bos = false;
  bool plain_pieces = false;
};

// Whose tokenizers are known to normalise.
constexpr std::string_view kNfcPretokenizers[] = {"qwen2", "mpt", "olmo", "command-r"};

constexpr PretokenizerRow kPretokenizers[] = {
    // Words with at most one space in front.
    {kDefaultPretokenizer, Gpt2},
    {"gpt-2", Gpt2},
    {"phi-2", Gpt2},
    {"mpt", Gpt2},
    {"olmo", Gpt2},
    {"jais", Gpt2},
    {"trillion", Gpt2},
    {"gigachat", Gpt2},
    {"granite-docling", Gpt2},
    {"exaone4", Gpt2},
    {"mellum", Gpt2},
    {"a.x-4.0", Gpt2},
    {"modern-bert", Gpt2},
    {"roberta-bpe", Gpt2},
    {"jina-es", Gpt2},
    {"jina-de", Gpt2},
    {"jina-v1-en", Gpt2},
    {"jina-v2-es", Gpt2},
    {"jina-v2-de", Gpt2},
    {"jina-v2-code", Gpt2},
    // The same with every digit by itself.
    {"starcoder", DigitsAndGpt2},
    {"refact", DigitsAndGpt2},
    {"command-r", DigitsAndGpt2},
    {"smollm", DigitsAndGpt2},
    {"codeshell", DigitsAndGpt2},
    {"exaone", DigitsAndGpt2},
    {"minerva-7b", DigitsAndGpt2},
    {"mellum2", DigitsAndGpt2},
    {"falcon", Falcon},
    {"chameleon", Chameleon, /*ignore_merges=*/false, /*add_bos=*/true},
    // GPT-4's kin: up to three digits.
    {"llama3", Llama3, /*ignore_merges=*/true, /*add_bos=*/true},
    {"llama-v3", Llama3, /*ignore_merges=*/true, /*add_bos=*/true},
    {"llama-bpe", Llama3, /*ignore_merges=*/true, /*add_bos=*/true},
    {"falcon3", Llama3, /*ignore_merges=*/true, /*add_bos=*/true},
    {"falcon-h1", Llama3, /*ignore_merges=*/true, /*add_bos=*/true},
    {"pixtral", Llama3, /*ignore_merges=*/true, /*add_bos=*/true},
    {"midm-2.0", Llama3, /*ignore_merges=*/true, /*add_bos=*/true},
    {"lfm2", Llama3, /*ignore_merges=*/true, /*add_bos=*/true},
    {"jina-v5-nano", Llama3, /*ignore_merges=*/true, /*add_bos=*/true},
    {"dbrx", Llama3},
    {"smaug-bpe", Llama3},
    {"glm4", Llama3},
    {"chatglm-bpe", Llama3},
    {"jais-2", Jais2},
    {"minicpm5", Minicpm5, /*ignore_merges=*/true},
    // One digit.
    {"qwen2", Qwen2},
    {"deepseek-r1-qwen", Qwen2},
    {"stablelm2", Qwen2},
    {"megrez", Qwen2},
    {"hunyuan", Qwen2},
    {"solar-open", Qwen2},
    {"grok-2", Qwen2},
    {"kormo", Qwen2},
    {"f2llmv2", Qwen2},
    {"ufakzeka", Ufakzeka},
    {"laguna", Laguna},
    {"qwen35", Qwen35},
    {"seed-coder", SeedCoder},
    {"bailingmoe", BailingMoe},
    {"bailingmoe2", BailingMoe},
    {"llada-moe", BailingMoe},
    {"exaone-moe", ExaoneMoe},
    // GPT-4o's kin.
    {"gpt-4o", Gpt4o},
    {"llama4", Gpt4o},
    {"kanana2", Gpt4o},
    {"talkie", Gpt4o},
    {"minimax-m2", Gpt4o},
    {"granite-embed-multi-97m", Gpt4o, /*ignore_merges=*/true},
    {"tekken", Tekken, /*ignore_merges=*/true, /*add_bos=*/true},
    {"kimi-k2", KimiK2},
    {"youtu", Youtu, /*ignore_merges=*/true},
    {"tiny_aya", TinyAya},
    {"cohere2moe", TinyAya},
    // deepseek's.
    {"deepseek-llm", DeepseekLlm},
    {"deepseek-coder", DeepseekCoder},
    {"deepseek-v3", DeepseekV3},
    {"hunyuan-dense", DeepseekV3},
    {"joyai-llm", DeepseekV3},
    {"hy_v4", DeepseekV3},
    {"spark2_5", Spark25},
    {"afmoe", Afmoe},
    // Whole clauses, or no words at all.
    {"bloom", Bloom},
    {"poro-chat", Bloom},
    {"gpt3-finnish", Bloom},
    {"viking", Viking},
    {"superbpe", SuperBpe},
    // Gemma 4's kin: lines of plain text.
    {"gemma4", Lines, /*ignore_merges=*/false, /*add_bos=*/true, /*plain_pieces=*/true},
    {"granite-embed-multi-311m", Lines, /*ignore_merges=*/false, /*add_bos=*/true,
     /*plain_pieces=*/true},
    {"sarvam-moe", Lines, /*ignore_merges=*/false, /*add_bos=*/false, /*plain_pieces=*/true},
};

}  // namespace

std::optional<PretokenizerInfo> FindPretokenizer(std::string_view name) {
  const auto* row =
      std::find_if(std::begin(kPretokenizers), std::end(kPretokenizers),
                   [&](const PretokenizerRow& candidate) { return candidate.name == name; });
  if (row == std::end(kPretokenizers)) return {};
  const bool nfc = std::find(std::begin(kNfcPretokenizers), std::end(kNfcPretokenizers), name) !=
                   std::end(kNfcPretokenizers);
  return PretokenizerInfo{row->name,          row->steps(),
                          row->ignore_merges, row->add_bos,
                          row->plain_pieces,  nfc ? UnicodeForm::kNfc : UnicodeForm::kNone};
}

std::vector<std::string_view> PretokenizerNames() {
  std::vector<std::string_view> names;
  for (const PretokenizerRow& row : kPretokenizers) names.push_back(row.name);
  return names;
}

}  // namespace thermocline
