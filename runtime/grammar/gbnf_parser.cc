#include "runtime/grammar/gbnf_parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>

#include "runtime/core/error.h"
#include "runtime/grammar/gbnf_text.h"
#include "runtime/text/utf8.h"

namespace thermocline {
namespace {

using Kind = GrammarExpr::Kind;

constexpr int kMaxRepeatedRepeats = 8;

bool IsNameChar(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '_';
}

class GbnfParser {
 public:
  GbnfParser(std::string_view text, int32_t n_tokens, const TokenLookup& lookup)
      : text_(text), n_tokens_(n_tokens), lookup_(lookup) {}

  GrammarRules Parse() {
    SkipSpace(true);
    while (!AtEnd()) ParseRule();
    const auto root = numbers_.find("root");
    if (root == numbers_.end() || !defined_[static_cast<size_t>(root->second)]) {
      throw Error({.what = "the grammar has no rule named root",
                   .hint = "name the rule that a text begins with root"});
    }
    for (size_t i = 0; i < defined_.size(); ++i) {
      if (defined_[i]) continue;
      throw Error({.what = fmt::format("the grammar uses a rule that it does not define: {}",
                                       Printable(rules_.names[i], 60))});
    }
    rules_.root = root->second;
    return std::move(rules_);
  }

 private:
  bool AtEnd() const { return at_ == text_.size(); }
  char Peek() const { return AtEnd() ? '\0' : text_[at_]; }
  bool Take(char c) {
    if (AtEnd() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  [[noreturn]] void Fail(const std::string& expected) const {
    const auto line = std::count(text_.begin(), text_.begin() + static_cast<ptrdiff_t>(at_), '\n');
    const std::string_view rest = text_.substr(at_, std::min<size_t>(24, text_.size() - at_));
    throw Error({.what = fmt::format("the grammar, line {}", line + 1),
                 .expected = expected,
                 .found = rest.empty() ? "the end" : fmt::format("\"{}\"", rest)});
  }

  void SkipSpace(bool over_lines) {
    while (!AtEnd()) {
      const char c = text_[at_];
      if (c == '#') {
        while (!AtEnd() && text_[at_] != '\n' && text_[at_] != '\r') ++at_;
      } else if (c == ' ' || c == '\t' || (over_lines && (c == '\n' || c == '\r'))) {
        ++at_;
      } else {
        return;
      }
    }
  }

  std::string_view TakeName() {
    const size_t begin = at_;
    while (!AtEnd() && IsNameChar(text_[at_])) ++at_;
    if (at_ == begin) Fail("a rule's name");
    return text_.substr(begin, at_ - begin);
  }

  int32_t NumberOf(std::string_view name) {
    const auto [entry, added] =
        numbers_.try_emplace(std::string(name), static_cast<int32_t>(rules_.names.size()));
    if (added) {
      CountPart();
      rules_.names.emplace_back(name);
      rules_.rules.emplace_back();
      defined_.push_back(false);
    }
    return entry->second;
  }

  void CountPart() {
    if (++n_parts_ <= kMaxGrammarParts) return;
    throw Error({.what = "the grammar is too long",
                 .expected = fmt::format("at most {} parts", kMaxGrammarParts)});
  }

  void ParseRule() {
    const int32_t number = NumberOf(TakeName());
    SkipSpace(false);
    if (!Take(':') || !Take(':') || !Take('=')) Fail("::= behind the rule's name");
    SkipSpace(true);
    GrammarExpr expr = ParseChoice(0);
    if (!AtEnd() && Peek() != '\n' && Peek() != '\r') Fail("the end of the line");
    rules_.rules[static_cast<size_t>(number)] = std::move(expr);
    defined_[static_cast<size_t>(number)] = true;
    SkipSpace(true);
  }

  GrammarExpr ParseChoice(int depth) {
    GrammarExpr choice{.kind = Kind::kChoice};
    choice.parts.push_back(ParseSequence(depth));
    while (Take('|')) {
      SkipSpace(true);
      choice.parts.push_back(ParseSequence(depth));
    }
    if (choice.parts.size() > 1) return choice;
    GrammarExpr only = std::move(choice.parts.front());
    return only;
  }

  GrammarExpr ParseSequence(int depth) {
    GrammarExpr sequence{.kind = Kind::kSequence};
    CountPart();
    for (;;) {
      std::optional<GrammarExpr> part = ParseItem(depth);
      if (!part) break;
      CountPart();
      SkipSpace(depth > 0);
      for (int n = 0; ParseRepetition(depth > 0, &*part); ++n) {
        if (n == kMaxRepeatedRepeats) Fail("fewer repetitions of repetitions");
        SkipSpace(depth > 0);
      }
      sequence.parts.push_back(std::move(*part));
    }
    return sequence;
  }

  // Returns nothing where no item begins.
  std::optional<GrammarExpr> ParseItem(int depth) {
    const char c = Peek();
    if (AtEnd()) return std::nullopt;
    if (c == '"') return ParseText();
    if (c == '[') return ParseSet();
    if (c == '<' || c == '!') return ParseToken();
    if (c == '.') {
      ++at_;
      return GrammarExpr{.kind = Kind::kSet, .set = ComplementOf({})};
    }
    if (c == '(') {
      if (depth >= kMaxGrammarNesting) {
        Fail(fmt::format("groups that nest at most {} deep", kMaxGrammarNesting));
      }
      ++at_;
      SkipSpace(true);
      GrammarExpr group = ParseChoice(depth + 1);
      if (!Take(')')) Fail(")");
      return group;
    }
    if (IsNameChar(c)) return GrammarExpr{.kind = Kind::kRule, .id = NumberOf(TakeName())};
    if (c == '*' || c == '+' || c == '?' || c == '{') Fail("something to repeat");
    return std::nullopt;
  }

  uint32_t TakeHex(int n_digits) {
    uint32_t value = 0;
    for (int i = 0; i < n_digits; ++i) {
      const char c = Peek();
      uint32_t digit = 0;
      if (c >= '0' && c <= '9') {
        digit = static_cast<uint32_t>(c - '0');
      } else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f') {
        digit = static_cast<uint32_t>((c | 0x20) - 'a') + 10;
      } else {
        Fail(fmt::format("{} hexadecimal digits", n_digits));
      }
      value = value << 4 | digit;
      ++at_;
    }
    return value;
  }

  // A character of a text or a class, maybe escaped.
  uint32_t TakeChar() {
    if (AtEnd()) Fail("a character");
    if (Take('\\')) {
      const char c = Peek();
      if (AtEnd()) Fail("an escape");
      ++at_;
      uint32_t code = 0;
      switch (c) {
        case 'x':
          return TakeHex(2);
        case 'u':
          code = TakeHex(4);
          break;
        case 'U':
          code = TakeHex(8);
          break;
        case 't':
          return '\t';
        case 'r':
          return '\r';
        case 'n':
          return '\n';
        case '\\':
        case '"':
        case '[':
        case ']':
        case '-':
        case '^':
          return static_cast<uint32_t>(c);
        default:
          --at_;
          Fail(R"(one of \x \u \U \t \r \n \\ \" \[ \] \- \^)");
      }
      if (code > kMaxCodepoint || (code >= 0xD800 && code <= 0xDFFF)) Fail("a Unicode character");
      return code;
    }
    const Utf8Char c = FirstUtf8Char(text_.substr(at_));
    if (c.status != Utf8Status::kValid) Fail("UTF-8");
    at_ += c.n_bytes;
    return c.codepoint;
  }

  GrammarExpr ParseText() {
    GrammarExpr text{.kind = Kind::kText};
    ++at_;
    while (!Take('"')) {
      if (AtEnd()) Fail("\" at the text's end");
      AppendUtf8(TakeChar(), &text.text);
    }
    return text;
  }

  GrammarExpr ParseSet() {
    ++at_;
    const bool negated = Take('^');
    std::vector<CodepointRange> ranges;
    while (!Take(']')) {
      if (AtEnd()) Fail("] at the class's end");
      CountPart();
      const uint32_t first = TakeChar();
      uint32_t last = first;
      if (Peek() == '-' && at_ + 1 < text_.size() && text_[at_ + 1] != ']') {
        ++at_;
        last = TakeChar();
        if (last < first) Fail("a range whose end is not before its beginning");
      }
      ranges.push_back({first, last});
    }
    GrammarExpr set{.kind = Kind::kSet};
    set.set = negated ? ComplementOf(std::move(ranges)) : NormalizedRanges(std::move(ranges));
    return set;
  }

  GrammarExpr ParseToken() {
    GrammarExpr token{.kind = Kind::kToken};
    token.negated = Take('!');
    const size_t begin = at_;
    if (!Take('<')) Fail("< of a token");
    if (Take('[')) {
      token.id = static_cast<int32_t>(std::min<int64_t>(TakeInt(), INT32_MAX));
      if (!Take(']') || !Take('>')) Fail("]> behind a token's id");
      if (token.id >= n_tokens_) {
        throw Error({.what = "the grammar has the id of a token",
                     .expected = fmt::format("below {}, the vocabulary's size", n_tokens_),
                     .found = std::to_string(token.id)});
      }
      return token;
    }
    const size_t end = text_.find_first_of(">\r\n", at_);
    if (end == std::string_view::npos || text_[end] != '>') Fail("> behind a token's name");
    at_ = end + 1;
    const std::string_view name = text_.substr(begin, at_ - begin);
    token.id = lookup_ ? lookup_(name) : -1;
    if (token.id < 0) {
      throw Error({.what = "the grammar names a token",
                   .expected = "one of the vocabulary",
                   .found = Printable(std::string(name), 60)});
    }
    return token;
  }

  int64_t TakeInt() {
    if (Peek() < '0' || Peek() > '9') Fail("a whole number");
    int64_t value = 0;
    while (Peek() >= '0' && Peek() <= '9') {
      value = std::min<int64_t>(value * 10 + (text_[at_] - '0'), int64_t{1} << 40);
      ++at_;
    }
    return value;
  }

  // Wraps `part` where a repetition follows it.
  bool ParseRepetition(bool over_lines, GrammarExpr* part) {
    GrammarExpr repeat{.kind = Kind::kRepeat};
    if (Take('*')) {
      repeat.least = 0;
    } else if (Take('+')) {
      repeat.least = 1;
    } else if (Take('?')) {
      repeat.most = 1;
    } else if (Take('{')) {
      SkipSpace(over_lines);
      repeat.least = repeat.most = TakeInt();
      SkipSpace(over_lines);
      if (Take(',')) {
        SkipSpace(over_lines);
        repeat.most = Peek() == '}' ? -1 : TakeInt();
        SkipSpace(over_lines);
      }
      if (!Take('}')) Fail("} behind a number of repetitions");
      if (repeat.least > kMaxRepetitions || repeat.most > kMaxRepetitions ||
          (repeat.most >= 0 && repeat.most < repeat.least)) {
        Fail(fmt::format("repetitions {{m,n}} with m <= n <= {}, before this", kMaxRepetitions));
      }
    } else {
      return false;
    }
    CountPart();
    repeat.parts.push_back(std::move(*part));
    *part = std::move(repeat);
    return true;
  }

  std::string_view text_;
  int32_t n_tokens_;
  const TokenLookup& lookup_;
  size_t at_ = 0;
  size_t n_parts_ = 0;
  GrammarRules rules_;
  std::vector<bool> defined_;
  std::unordered_map<std::string, int32_t> numbers_;
};

}  // namespace

GrammarRules ParseGbnf(std::string_view text, int32_t n_tokens, const TokenLookup& lookup) {
  if (text.size() > kMaxGrammarBytes) {
    throw Error({.what = "the grammar is too long",
                 .expected = fmt::format("at most {} bytes", kMaxGrammarBytes),
                 .found = std::to_string(text.size())});
  }
  return GbnfParser(text, n_tokens, lookup).Parse();
}

}  // namespace thermocline
