#include "runtime/grammar/schema_pattern.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "runtime/core/error.h"
#include "runtime/text/utf8.h"

namespace thermocline {
namespace {

using Ranges = std::vector<CodepointRange>;

constexpr int kMaxDepth = 40;
constexpr int64_t kMaxCount = 100'000;

// What other engines count as a space or do not (Python's re) is in neither of \s and \S.
Ranges ClassOf(char escape) {
  Ranges digits = {{'0', '9'}};
  Ranges word = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
  Ranges space = {{'\t', '\r'},     {' ', ' '},       {0xA0, 0xA0},
                  {0x1680, 0x1680}, {0x2000, 0x200A}, {0x2028, 0x2029},
                  {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}};
  Ranges maybe_space = space;
  maybe_space.insert(maybe_space.end(), {{0x1C, 0x1F}, {0x85, 0x85}, {0xFEFF, 0xFEFF}});
  switch (escape) {
    case 'd':
      return digits;
    case 'D':
      return ComplementOf(digits);
    case 'w':
      return word;
    case 'W':
      return ComplementOf(word);
    case 's':
      return space;
    default:
      return ComplementOf(maybe_space);
  }
}

class PatternParser {
 public:
  PatternParser(std::string_view pattern, const std::string& where, JsonRules& rules)
      : pattern_(pattern), where_(where), rules_(rules) {}

  std::string Parse() {
    std::string body = Alternatives(0);
    if (!AtEnd()) Fail("a group that begins before this ends");
    return body;
  }

 private:
  bool AtEnd() const { return at_ == pattern_.size(); }
  char Peek() const { return AtEnd() ? '\0' : pattern_[at_]; }
  bool Take(char c) {
    if (AtEnd() || pattern_[at_] != c) return false;
    ++at_;
    return true;
  }
  [[noreturn]] void Fail(const std::string& expected) const {
    FailSchema(where_, "pattern", expected,
               fmt::format("\"{}\" at character {}",
                           Printable(std::string(pattern_.substr(at_, 16)), 40), at_ + 1));
  }

  // Alternatives up to the group's end. At the top each may be anchored.
  std::string Alternatives(int depth) {
    if (depth > kMaxDepth) Fail(fmt::format("groups that nest at most {} deep", kMaxDepth));
    std::string out;
    do {
      if (!out.empty()) out += " | ";
      out += Sequence(depth);
    } while (Take('|'));
    return fmt::format("({})", out);
  }

  std::string Sequence(int depth) {
    const std::string any = rules_.Char() + "*";
    std::string out;
    const auto add = [&out](const std::string& part) {
      if (!out.empty()) out += ' ';
      out += part;
    };
    if (depth == 0 && !Take('^')) add(any);
    bool ended = false;
    while (!AtEnd() && Peek() != '|' && Peek() != ')') {
      if (ended) Fail("nothing behind $");
      if (Peek() == '^') Fail("^ at the beginning only");
      if (Peek() == '$') {
        if (depth > 0) Fail("$ at the end only, outside of groups");
        ++at_;
        ended = true;
        continue;
      }
      add(Item(depth));
    }
    if (depth == 0 && !ended) add(any);
    return out.empty() ? "\"\"" : out;
  }

  std::string Item(int depth) {
    std::string item;
    if (Take('(')) {
      if (Take('?') && !Take(':')) {
        // A named group is a group.
        if (!(Take('<') && Peek() != '=' && Peek() != '!')) {
          Fail("groups (...), (?:...) and (?<name>...), and no look-ahead");
        }
        while (!AtEnd() && Peek() != '>') ++at_;
        if (!Take('>')) Fail("> behind a group's name");
      }
      item = Alternatives(depth + 1);
      if (!Take(')')) Fail(")");
    } else {
      item = JsonCharSet(Single());
    }
    return item + Quantifier();
  }

  std::string Quantifier() {
    std::string out;
    if (Take('*')) {
      out = "*";
    } else if (Take('+')) {
      out = "+";
    } else if (Take('?')) {
      out = "?";
    } else if (const size_t begin = at_; Take('{')) {
      const std::optional<int64_t> least = Int();
      if (!least) Fail("a number behind {, or \\{");
      const bool open = Take(',');
      const std::optional<int64_t> most = open ? Int() : least;
      if (!Take('}')) Fail("}");
      if (*least > kMaxCount || (most && (*most > kMaxCount || *most < *least))) {
        at_ = begin;
        Fail(fmt::format("counts {{m,n}} with m <= n <= {}", kMaxCount));
      }
      out = open ? fmt::format("{{{},{}}}", *least, most ? std::to_string(*most) : "")
                 : fmt::format("{{{}}}", *least);
    }
    if (!out.empty()) {
      Take('?');
      if (Peek() == '*' || Peek() == '+' || Peek() == '?') Fail("one repetition of a thing");
    }
    return out;
  }

  std::optional<int64_t> Int() {
    if (Peek() < '0' || Peek() > '9') return std::nullopt;
    int64_t value = 0;
    while (Peek() >= '0' && Peek() <= '9') {
      value = std::min(value * 10 + (Peek() - '0'), kMaxCount + 1);
      ++at_;
    }
    return value;
  }

  Ranges Single() {
    if (Peek() == '*' || Peek() == '+' || Peek() == '?' || Peek() == '{') {
      Fail("something to repeat before this");
    }
    if (Take('.')) return ComplementOf({{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}});
    if (Take('[')) return Class();
    return CharOrClass(false);
  }

  uint32_t TakeCodepoint() {
    const Utf8Char c = FirstUtf8Char(pattern_.substr(at_));
    if (c.status != Utf8Status::kValid) Fail("UTF-8");
    at_ += c.n_bytes;
    return c.codepoint;
  }

  uint32_t TakeHex(int n_digits) {
    uint32_t value = 0;
    for (int i = 0; i < n_digits; ++i) {
      const char c = Peek();
      const bool digit = c >= '0' && c <= '9';
      if (!digit && !((c | 0x20) >= 'a' && (c | 0x20) <= 'f')) Fail("hexadecimal digits");
      value = value << 4 | static_cast<uint32_t>(digit ? c - '0' : (c | 0x20) - 'a' + 10);
      ++at_;
    }
    return value;
  }

  // A character, or an escape that is one or a class of them.
  Ranges CharOrClass(bool in_class) {
    if (AtEnd()) Fail("a character");
    if (!Take('\\')) {
      const uint32_t c = TakeCodepoint();
      return {{c, c}};
    }
    const char c = Peek();
    if (AtEnd()) Fail("a character behind \\");
    if (std::string_view("dDwWsS").find(c) != std::string_view::npos) {
      ++at_;
      return ClassOf(c);
    }
    uint32_t code = static_cast<unsigned char>(c);
    constexpr std::string_view kNames = "tnrfv0";
    constexpr std::string_view kCodes{"\t\n\r\f\v\0", 6};
    if (const size_t at = kNames.find(c); at != std::string_view::npos) {
      code = static_cast<unsigned char>(kCodes[at]);
      ++at_;
    } else if (c == 'b' && in_class) {
      code = '\b';
      ++at_;
    } else if (c == 'x' || c == 'u') {
      ++at_;
      code = TakeHex(c == 'x' ? 2 : 4);
      if (code >= 0xD800 && code <= 0xDFFF) Fail("a character, and no half of one");
    } else if (c == 'p' || c == 'P' || c == 'k' || c == 'b' || c == 'B' || c == 'c' ||
               (c >= '1' && c <= '9')) {
      Fail("no word boundaries, back-references or Unicode properties");
    } else {
      code = TakeCodepoint();
    }
    return {{code, code}};
  }

  Ranges Class() {
    const bool negated = Take('^');
    Ranges set;
    while (!Take(']')) {
      if (AtEnd()) Fail("] at the class's end");
      Ranges part = CharOrClass(true);
      const bool single = part.size() == 1 && part.front().first == part.front().last;
      if (single && Peek() == '-' && at_ + 1 < pattern_.size() && pattern_[at_ + 1] != ']') {
        ++at_;
        const Ranges end = CharOrClass(true);
        if (end.size() != 1 || end.front().first != end.front().last ||
            end.front().first < part.front().first) {
          Fail("the end of a range of characters before this");
        }
        part.front().last = end.front().last;
      }
      set.insert(set.end(), part.begin(), part.end());
    }
    return negated ? ComplementOf(std::move(set)) : NormalizedRanges(std::move(set));
  }

  std::string_view pattern_;
  const std::string& where_;
  JsonRules& rules_;
  size_t at_ = 0;
};

}  // namespace

std::string PatternBody(std::string_view pattern, const std::string& where, JsonRules& rules) {
  return PatternParser(pattern, where, rules).Parse();
}

}  // namespace thermocline
