#include "runtime/grammar/gbnf_text.h"

#include <fmt/format.h>

#include "runtime/text/utf8.h"

namespace thermocline {
namespace {

std::string EscapedChar(uint32_t c) {
  if (c == '\n') return "\\n";
  if (c == '\r') return "\\r";
  if (c == '\t') return "\\t";
  if (c == '"' || c == '\\' || c == '[' || c == ']') {
    return fmt::format("\\{}", static_cast<char>(c));
  }
  // As such, these two mean something within a class.
  if (c >= 0x20 && c < 0x7F && c != '-' && c != '^') return std::string(1, static_cast<char>(c));
  if (c <= 0xFF) return fmt::format("\\x{:02X}", c);
  return c <= 0xFFFF ? fmt::format("\\u{:04X}", c) : fmt::format("\\U{:08X}", c);
}

// What a rule may be called in llama.cpp, too. No name has two '-' in a row: GbnfWriter::Reserve
// numbers rules with them.
std::string AsName(std::string_view hint) {
  std::string name;
  for (const char c : hint.substr(0, 40)) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (plain) {
      name += c;
    } else if (!name.empty() && name.back() != '-') {
      name += '-';
    }
  }
  if (name.ends_with('-')) name.pop_back();
  return name.empty() ? "rule" : name;
}

}  // namespace

void AppendUtf8(uint32_t c, std::string* out) {
  const auto put = [out](uint32_t byte) { *out += static_cast<char>(byte); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | c >> 6);
    put(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    put(0xE0 | c >> 12);
    put(0x80 | (c >> 6 & 0x3F));
    put(0x80 | (c & 0x3F));
  } else {
    put(0xF0 | c >> 18);
    put(0x80 | (c >> 12 & 0x3F));
    put(0x80 | (c >> 6 & 0x3F));
    put(0x80 | (c & 0x3F));
  }
}

std::string GbnfText(std::string_view text) {
  const std::string valid = ReplaceInvalidUtf8(text);
  std::string out = "\"";
  for (std::string_view rest = valid; !rest.empty();) {
    const Utf8Char c = FirstUtf8Char(rest);
    if (c.codepoint < 0x80 && c.codepoint != '-' && c.codepoint != '[' && c.codepoint != ']' &&
        c.codepoint != '^') {
      out += EscapedChar(c.codepoint);
    } else {
      out += rest.substr(0, c.n_bytes);
    }
    rest.remove_prefix(c.n_bytes);
  }
  return out + "\"";
}

std::string GbnfSet(const std::vector<CodepointRange>& ranges) {
  std::string out = "[";
  const auto add = [&out](uint32_t first, uint32_t last) {
    if (last < first) return;
    out += EscapedChar(first);
    if (last > first) out += "-" + EscapedChar(last);
  };
  for (const CodepointRange& range : ranges) {
    // GBNF writes no surrogates.
    if (range.first < 0xD800 && range.last > 0xDFFF) {
      add(range.first, 0xD7FF);
      add(0xE000, range.last);
    } else {
      const bool starts_within = range.first >= 0xD800 && range.first <= 0xDFFF;
      const bool ends_within = range.last >= 0xD800 && range.last <= 0xDFFF;
      add(starts_within ? 0xE000 : range.first, ends_within ? 0xD7FF : range.last);
    }
  }
  return out + "]";
}

std::string GbnfToken(int32_t id) { return fmt::format("<[{}]>", id); }

std::string GbnfWriter::Add(std::string_view hint, std::string_view body) {
  const auto [entry, added] =
      name_of_.try_emplace(fmt::format("{}\n{}", AsName(hint), body), std::string());
  if (added) {
    entry->second = Reserve(hint);
    Define(entry->second, body);
  }
  return entry->second;
}

std::string GbnfWriter::Reserve(std::string_view hint) {
  std::string name = AsName(hint);
  const int n = n_of_[name]++;
  if (n > 0) name += fmt::format("--{}", n);
  return name;
}

void GbnfWriter::Define(std::string_view name, std::string_view body) {
  text_ += fmt::format("{} ::= {}\n", name, body);
}

}  // namespace thermocline
