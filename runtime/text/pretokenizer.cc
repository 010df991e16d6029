#include "runtime/text/pretokenizer.h"

#include <fmt/format.h>

#include <cstdint>
#include <limits>
#include <new>

#include "runtime/core/error.h"
#include "runtime/text/utf8.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace thermocline {
namespace {

// PCRE2's own \s also holds U+180E, which Unicode no longer counts as a space.
constexpr std::string_view kWhiteSpace = R"(\t-\r\x{85}\p{Z})";
// What a match may use for going back. Only expressions with repeated groups need more than the
// 32 KiB that PCRE2 has at hand, and those of the table need little.
constexpr size_t kFirstJitStackBytes = size_t{64} << 10;
constexpr size_t kMaxJitStackBytes = size_t{64} << 20;

// Writes \s and \S as what White_Space is. REQUIRES: \S does not stand in a class.
std::string WithUnicodeSpaces(std::string_view expression) {
  std::string out;
  bool in_class = false;
  for (size_t i = 0; i < expression.size(); ++i) {
    if (expression[i] != '\\') {
      if (expression[i] == '[') in_class = true;
      if (expression[i] == ']') in_class = false;
      out += expression[i];
      continue;
    }
    CHECK(i + 1 < expression.size());
    const char escaped = expression[++i];
    if (escaped == 's' && in_class) {
      out += kWhiteSpace;
    } else if (escaped == 's' || escaped == 'S') {
      CHECK(!in_class);
      out += fmt::format("[{}{}]", escaped == 'S' ? "^" : "", kWhiteSpace);
    } else {
      out += '\\';
      out += escaped;
    }
  }
  return out;
}

bool StartsCharacter(char byte) { return (static_cast<uint8_t>(byte) & 0xC0) != 0x80; }

// Returns the bytes of a text's first n characters, or of all where it has fewer.
size_t BytesOfCharacters(std::string_view text, size_t n) {
  size_t n_bytes = 0;
  while (n_bytes < text.size() && (!StartsCharacter(text[n_bytes]) || n-- > 0)) ++n_bytes;
  return n_bytes;
}

// Returns the bytes of a text's first characters, as many as are left over when threes are taken
// from its end (three where none is). REQUIRES: text is valid UTF-8.
size_t FirstOfThrees(std::string_view text) {
  size_t n_characters = 0;
  for (const char byte : text) n_characters += StartsCharacter(byte) ? 1 : 0;
  return BytesOfCharacters(text, n_characters % 3 == 0 ? 3 : n_characters % 3);
}

}  // namespace

struct Pretokenizer::Step {
  explicit Step(const PretokenizerStep& step) : by_threes(step.by_threes) {
    const std::string expression = WithUnicodeSpaces(step.expression);
    int error = 0;
    PCRE2_SIZE error_at = 0;
    code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(expression.data()), expression.size(),
                         PCRE2_UTF | PCRE2_UCP, &error, &error_at, nullptr);
    CHECK(code != nullptr);
    // Where the system allows no generated code, PCRE2 interprets the expression.
    (void)pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
  }
  ~Step() { pcre2_code_free(code); }
  Step(const Step&) = delete;
  Step& operator=(const Step&) = delete;

  pcre2_code* code = nullptr;
  bool by_threes;
};

// What one thread needs to match.
class Pretokenizer::Matcher {
 public:
  Matcher()
      : data_(pcre2_match_data_create(1, nullptr)), context_(pcre2_match_context_create(nullptr)) {
    if (data_ == nullptr || context_ == nullptr) throw std::bad_alloc();
    // A word may be as long as the text.
    pcre2_set_match_limit(context_, std::numeric_limits<uint32_t>::max());
    pcre2_set_depth_limit(context_, std::numeric_limits<uint32_t>::max());
  }
  ~Matcher() {
    pcre2_match_data_free(data_);
    pcre2_match_context_free(context_);
    pcre2_jit_stack_free(stack_);
  }
  Matcher(const Matcher&) = delete;
  Matcher& operator=(const Matcher&) = delete;

  struct Match {
    size_t begin;
    size_t end;
  };

  // Finds the first match at or behind `from` that is not empty; begin == end: there is none.
  Match Find(const Step& step, std::string_view piece, size_t from) {
    while (from < piece.size()) {
      const int result = Run(step, piece, from);
      if (result == PCRE2_ERROR_NOMATCH) break;
      if (result < 0) Fail(result);
      const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(data_);
      if (bounds[1] > bounds[0]) return {bounds[0], bounds[1]};
      from = bounds[0] + 1;
      while (from < piece.size() && !StartsCharacter(piece[from])) ++from;
    }
    return {piece.size(), piece.size()};
  }

 private:
  int Run(const Step& step, std::string_view piece, size_t from) {
    const auto match = [&] {
      return pcre2_match(step.code, reinterpret_cast<PCRE2_SPTR>(piece.data()), piece.size(), from,
                         PCRE2_NO_UTF_CHECK, data_, context_);
    };
    const int result = match();
    if (result != PCRE2_ERROR_JIT_STACKLIMIT || stack_ != nullptr) return result;
    stack_ = pcre2_jit_stack_create(kFirstJitStackBytes, kMaxJitStackBytes, nullptr);
    if (stack_ == nullptr) throw std::bad_alloc();
    pcre2_jit_stack_assign(context_, nullptr, stack_);
    return match();
  }

  [[noreturn]] static void Fail(int code) {
    if (code == PCRE2_ERROR_NOMEMORY) throw std::bad_alloc();
    char message[120] = "";
    pcre2_get_error_message(code, reinterpret_cast<PCRE2_UCHAR*>(message), sizeof(message));
    throw Error({.what = "the text cannot be cut into words", .found = message});
  }

  pcre2_match_data* data_;
  pcre2_match_context* context_;
  pcre2_jit_stack* stack_ = nullptr;
};

Pretokenizer::Pretokenizer(const PretokenizerInfo& info) {
  for (const PretokenizerStep& step : info.steps) steps_.push_back(std::make_unique<Step>(step));
}

Pretokenizer::~Pretokenizer() = default;

void Pretokenizer::Split(std::string_view text, const Emit& emit) const {
  Matcher matcher;
  while (!text.empty()) {
    const size_t n_valid = ValidUtf8Prefix(text);
    SplitFrom(0, text.substr(0, n_valid), matcher, emit);
    text.remove_prefix(n_valid);
    if (text.empty()) break;
    const size_t n_invalid = FirstUtf8Char(text).n_bytes;
    for (size_t i = 0; i < n_invalid; ++i) emit(text.substr(i, 1));
    text.remove_prefix(n_invalid);
  }
}

void Pretokenizer::SplitFrom(size_t step, std::string_view piece, Matcher& matcher,
                             const Emit& emit) const {
  if (piece.empty()) return;
  if (step == steps_.size()) {
    emit(piece);
    return;
  }
  for (size_t done = 0; done < piece.size();) {
    const Matcher::Match match = matcher.Find(*steps_[step], piece, done);
    SplitFrom(step + 1, piece.substr(done, match.begin - done), matcher, emit);
    const std::string_view matched = piece.substr(match.begin, match.end - match.begin);
    if (steps_[step]->by_threes) {
      SplitThrees(step + 1, matched, matcher, emit);
    } else {
      SplitFrom(step + 1, matched, matcher, emit);
    }
    done = match.end;
  }
}

void Pretokenizer::SplitThrees(size_t step, std::string_view piece, Matcher& matcher,
                               const Emit& emit) const {
  size_t n_bytes = FirstOfThrees(piece);
  while (!piece.empty()) {
    SplitFrom(step, piece.substr(0, n_bytes), matcher, emit);
    piece.remove_prefix(n_bytes);
    n_bytes = BytesOfCharacters(piece, 3);
  }
}

}  // namespace thermocline
