#include "runtime/text/jinja/lexer.h"

#include <fmt/format.h>

#include <algorithm>

#include "runtime/text/jinja/unicode.h"
#include "runtime/text/utf8.h"

namespace thermocline::jinja {
namespace {

constexpr size_t kNotFound = std::string::npos;

// Makes every kind of line end "\n" and takes away the last one.
std::string NormaliseNewlines(const std::string& source) {
  std::string text;
  text.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      text += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      text += source[i];
    }
  }
  if (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

bool IsNameStart(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c & 0x80) != 0;
}

bool IsAsciiDigit(char c) { return c >= '0' && c <= '9'; }

class Lexer {
 public:
  explicit Lexer(const std::string& source) : source_(NormaliseNewlines(source)) {}

  std::vector<Token> Run();

 private:
  [[noreturn]] void FailHere(const std::string& what, const std::string& found = {}) const {
    throw Failure({.what = what, .found = found}, line_);
  }
  char at(size_t position) const { return position < source_.size() ? source_[position] : '\0'; }
  bool starts_with(std::string_view text, size_t position) const {
    return source_.compare(position, text.size(), text) == 0;
  }
  // Moves on and counts lines.
  void Advance(size_t to);
  size_t SkipSpace(size_t position) const;
  void Add(TokenKind kind, std::string text) { tokens_.push_back({kind, line_, std::move(text)}); }

  size_t FindTag() const;
  // Adds the text before a tag at `tag`, stripped as the tag says, and moves to the tag.
  void AddTextBefore(size_t tag);
  void AddText(std::string_view text);
  std::string_view StripBeforeTag(std::string_view text, size_t tag) const;
  void SkipComment();
  bool TakeRaw();
  // Moves behind the end of a tag whose closing characters begin at `end` (a sign before them).
  void CloseTag(size_t end, bool trims_newline);
  void ReadTag(bool is_block);
  bool TakeTagEnd(bool is_block);
  void ReadToken();
  void ReadNumber();
  void ReadString();
  void ReadOperator();

  std::string source_;
  size_t position_ = 0;
  int line_ = 1;
  bool line_starting_ = true;  // whether the text to come begins a line
  std::string brackets_;       // what closes those that are open
  std::vector<Token> tokens_;
};

void Lexer::Advance(size_t to) {
  const auto begin = source_.begin() + static_cast<std::ptrdiff_t>(position_);
  const auto end = source_.begin() + static_cast<std::ptrdiff_t>(to);
  line_ += static_cast<int>(std::count(begin, end, '\n'));
  position_ = to;
}

size_t Lexer::SkipSpace(size_t position) const {
  const std::string_view rest = std::string_view(source_).substr(position);
  return position + rest.size() - Strip(rest, Side::kLeft).size();
}

size_t Lexer::FindTag() const {
  for (size_t brace = source_.find('{', position_); brace != kNotFound;
       brace = source_.find('{', brace + 1)) {
    const char next = at(brace + 1);
    if (next == '{' || next == '%' || next == '#') return brace;
  }
  return kNotFound;
}

void Lexer::AddText(std::string_view text) {
  if (!text.empty()) Add(TokenKind::kText, std::string(text));
}

std::string_view Lexer::StripBeforeTag(std::string_view text, size_t tag) const {
  const char sign = at(tag + 2);
  if (sign == '-') return Strip(text, Side::kRight);
  if (sign == '+' || at(tag + 1) == '{') return text;
  // lstrip_blocks: nothing but blanks between the line's start and the tag goes away.
  const size_t newline = text.rfind('\n');
  if (newline == kNotFound && !line_starting_) return text;
  const size_t line_begin = newline == kNotFound ? 0 : newline + 1;
  return Strip(text.substr(line_begin), Side::kLeft).empty() ? text.substr(0, line_begin) : text;
}

void Lexer::AddTextBefore(size_t tag) {
  AddText(StripBeforeTag(std::string_view(source_).substr(position_, tag - position_), tag));
  Advance(tag);
}

void Lexer::CloseTag(size_t end, bool trims_newline) {
  const char sign = at(end);
  size_t after = end + (sign == '-' || sign == '+' ? 3 : 2);
  if (sign == '-') {
    after = SkipSpace(after);
  } else if (sign != '+' && trims_newline && at(after) == '\n') {
    ++after;
  }
  line_starting_ = at(after - 1) == '\n';
  Advance(after);
}

void Lexer::SkipComment() {
  const size_t content = position_ + 2 + (at(position_ + 2) == '-' || at(position_ + 2) == '+');
  const size_t end = source_.find("#}", content);
  if (end == kNotFound) FailHere("a comment that does not end");
  const bool has_sign = end > content && (at(end - 1) == '-' || at(end - 1) == '+');
  CloseTag(has_sign ? end - 1 : end, true);
}

// Returns where `{% word %}` continues behind the word, or npos. `tag`: where "{%" is.
size_t BehindWord(const std::string& source, size_t tag, std::string_view word) {
  size_t position = tag + 2;
  if (position < source.size() && (source[position] == '-' || source[position] == '+')) ++position;
  const auto skip_space = [&] {
    const std::string_view rest = std::string_view(source).substr(position);
    position += rest.size() - Strip(rest, Side::kLeft).size();
  };
  skip_space();
  if (source.compare(position, word.size(), word) != 0) return kNotFound;
  position += word.size();
  skip_space();
  return position;
}

bool Lexer::TakeRaw() {
  const size_t begin_end = BehindWord(source_, position_, "raw");
  if (begin_end == kNotFound) return false;
  if (!starts_with("%}", begin_end) && !starts_with("-%}", begin_end)) return false;
  CloseTag(begin_end, false);
  for (size_t tag = source_.find("{%", position_); tag != kNotFound;
       tag = source_.find("{%", tag + 2)) {
    const size_t end = BehindWord(source_, tag, "endraw");
    if (end == kNotFound) continue;
    const bool signed_end = at(end) == '-' || at(end) == '+';
    if (!starts_with("%}", end + (signed_end ? 1 : 0))) continue;
    AddTextBefore(tag);
    CloseTag(end, true);
    return true;
  }
  FailHere("a raw block that does not end");
}

bool Lexer::TakeTagEnd(bool is_block) {
  if (!brackets_.empty()) return false;
  const std::string_view end = is_block ? "%}" : "}}";
  const char sign = at(position_);
  const bool is_signed = sign == '-' || (is_block && sign == '+');
  if (!starts_with(end, position_ + (is_signed ? 1 : 0))) return false;
  Add(is_block ? TokenKind::kBlockEnd : TokenKind::kPrintEnd, "");
  CloseTag(position_, is_block);
  return true;
}

void Lexer::ReadTag(bool is_block) {
  Add(is_block ? TokenKind::kBlockBegin : TokenKind::kPrintBegin, "");
  const int first_line = line_;
  const char sign = at(position_ + 2);
  Advance(position_ + (sign == '-' || sign == '+' ? 3 : 2));
  brackets_.clear();
  while (true) {
    Advance(SkipSpace(position_));
    if (position_ >= source_.size()) {
      throw Failure({.what = "a tag that does not end"}, first_line);
    }
    if (TakeTagEnd(is_block)) return;
    ReadToken();
  }
}

void Lexer::ReadToken() {
  const char c = at(position_);
  if (IsAsciiDigit(c)) return ReadNumber();
  if (c == '"' || c == '\'') return ReadString();
  if (!IsNameStart(c)) return ReadOperator();
  size_t end = position_;
  while (end < source_.size() && (IsNameStart(at(end)) || IsAsciiDigit(at(end)))) ++end;
  Add(TokenKind::kName, source_.substr(position_, end - position_));
  Advance(end);
}

void Lexer::ReadNumber() {
  size_t end = position_;
  const auto take_digits = [&](auto is_digit) {
    while (is_digit(at(end)) || (at(end) == '_' && is_digit(at(end + 1)))) ++end;
  };
  const char base = static_cast<char>(at(position_ + 1) | 0x20);
  const bool has_base = at(position_) == '0' && (base == 'x' || base == 'o' || base == 'b');
  if (has_base) {
    end += 2;
    take_digits([](char c) { return IsAsciiDigit(c) || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f'); });
  } else {
    take_digits(IsAsciiDigit);
  }
  const bool behind_dot =
      !tokens_.empty() && tokens_.back().kind == TokenKind::kOperator && tokens_.back().text == ".";
  bool is_float = false;
  if (!has_base && !behind_dot) {
    if (at(end) == '.' && IsAsciiDigit(at(end + 1))) {
      is_float = true;
      ++end;
      take_digits(IsAsciiDigit);
    }
    const size_t exponent = end + (at(end + 1) == '+' || at(end + 1) == '-' ? 2 : 1);
    if ((at(end) | 0x20) == 'e' && IsAsciiDigit(at(exponent))) {
      is_float = true;
      end = exponent;
      take_digits(IsAsciiDigit);
    }
  }
  std::string digits = source_.substr(position_, end - position_);
  digits.erase(std::remove(digits.begin(), digits.end(), '_'), digits.end());
  Add(is_float ? TokenKind::kFloat : TokenKind::kInteger, std::move(digits));
  Advance(end);
}

void Lexer::ReadString() {
  const char quote = at(position_);
  size_t end = position_ + 1;
  while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
  if (end >= source_.size()) FailHere("a string that does not end");
  const std::string_view content =
      std::string_view(source_).substr(position_ + 1, end - position_ - 1);
  Add(TokenKind::kString, DecodeStringLiteral(content, line_));
  Advance(end + 1);
}

void Lexer::ReadOperator() {
  constexpr std::string_view kPairs[] = {"**", "//", "==", "!=", "<=", ">="};
  const auto is_here = [this](std::string_view pair) { return starts_with(pair, position_); };
  const bool is_pair = std::any_of(std::begin(kPairs), std::end(kPairs), is_here);
  const char c = at(position_);
  if (!is_pair && std::string_view("+-/*%~[](){}<>=.:|,;").find(c) == std::string_view::npos) {
    FailHere("a character that no expression has", fmt::format("'{}'", c));
  }
  if (c == '(') brackets_ += ')';
  if (c == '[') brackets_ += ']';
  if (c == '{') brackets_ += '}';
  if (c == ')' || c == ']' || c == '}') {
    if (brackets_.empty() || brackets_.back() != c) {
      FailHere("a bracket that closes none", fmt::format("'{}'", c));
    }
    brackets_.pop_back();
  }
  Add(TokenKind::kOperator, source_.substr(position_, is_pair ? 2 : 1));
  Advance(position_ + (is_pair ? 2 : 1));
}

std::vector<Token> Lexer::Run() {
  while (true) {
    const size_t tag = FindTag();
    if (tag == kNotFound) break;
    AddTextBefore(tag);
    const char kind = at(tag + 1);
    if (kind == '#') {
      SkipComment();
    } else if (kind == '{' || !TakeRaw()) {
      ReadTag(kind == '%');
    }
  }
  AddText(std::string_view(source_).substr(position_));
  Advance(source_.size());
  Add(TokenKind::kEnd, "");
  return std::move(tokens_);
}

}  // namespace

std::vector<Token> Tokenize(const std::string& source, const Limits& limits) {
  if (source.size() > limits.max_template_bytes) {
    throw Failure({.what = "the template is too long",
                   .expected = fmt::format("at most {} bytes", limits.max_template_bytes),
                   .found = fmt::format("{}", source.size())},
                  0);
  }
  return Lexer(source).Run();
}

}  // namespace thermocline::jinja
