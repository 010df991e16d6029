#include "runtime/text/unicode_form.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <vector>

#include "runtime/core/error.h"
#include "runtime/text/utf8.h"

namespace thermocline {
namespace {

using Codepoints = std::vector<int32_t>;

constexpr std::string_view kNames[] = {"none", "NFC", "NFD", "NFKC", "NFKD"};

bool Composes(UnicodeForm form) { return form == UnicodeForm::kNfc || form == UnicodeForm::kNfkc; }

utf8proc_option_t DecomposeOptions(UnicodeForm form) {
  const bool compatible = form == UnicodeForm::kNfkc || form == UnicodeForm::kNfkd;
  return static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE |
                                        (compatible ? UTF8PROC_COMPAT : 0));
}

int CombiningClass(int32_t codepoint) { return utf8proc_get_property(codepoint)->combining_class; }

// Appends what a character is made of.
void Decompose(int32_t codepoint, UnicodeForm form, Codepoints* out) {
  std::array<int32_t, 32> parts = {};  // the longest of Unicode's has 18
  int bound_class = 0;
  const auto n =
      utf8proc_decompose_char(codepoint, parts.data(), static_cast<utf8proc_ssize_t>(parts.size()),
                              DecomposeOptions(form), &bound_class);
  CHECK(n >= 0 && static_cast<size_t>(n) <= parts.size());
  out->insert(out->end(), parts.begin(), parts.begin() + n);
}

// Puts decomposed characters into the form: marks in the order of their classes, then joined.
void Finish(UnicodeForm form, Codepoints* text) {
  for (auto begin = text->begin(); begin != text->end();) {
    if (CombiningClass(*begin) == 0) {
      ++begin;
      continue;
    }
    const auto end =
        std::find_if(begin, text->end(), [](int32_t c) { return CombiningClass(c) == 0; });
    std::stable_sort(begin, end,
                     [](int32_t a, int32_t b) { return CombiningClass(a) < CombiningClass(b); });
    begin = end;
  }
  if (!Composes(form)) return;
  const auto n =
      utf8proc_normalize_utf32(text->data(), static_cast<utf8proc_ssize_t>(text->size()),
                               static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  CHECK(n >= 0);
  text->resize(static_cast<size_t>(n));
}

// Whether characters stand for themselves in a form, whatever is before or behind them: they do not
// change, are no marks, and join nothing before them. A text is cut in front of any such one.
class StableCharacters {
 public:
  explicit StableCharacters(UnicodeForm form) : stable_(kEnd / 8) {
    Codepoints parts;
    for (int32_t c = 0; c < kEnd; ++c) {
      parts.clear();
      Decompose(c, form, &parts);
      Finish(form, &parts);
      const bool same = parts.size() == 1 && parts[0] == c;
      if (same && CombiningClass(c) == 0 && !(Composes(form) && JoinsBefore(c))) {
        stable_[static_cast<size_t>(c) / 8] |= static_cast<uint8_t>(1U << c % 8);
      }
    }
  }
  bool Has(uint32_t codepoint) const {
    return codepoint >= kEnd || (stable_[codepoint / 8] >> codepoint % 8 & 1) != 0;
  }

 private:
  // What has decompositions or marks lies below, but for marks of planes that hold none that join.
  static constexpr int32_t kEnd = 0x30000;

  static bool JoinsBefore(int32_t c) {
    const bool jamo = (c >= 0x1161 && c <= 0x1175) || (c >= 0x11A8 && c <= 0x11C2);
    const uint16_t index = utf8proc_get_property(c)->comb_index;
    return jamo || (index != UINT16_MAX && index >= 0x8000);
  }

  std::vector<uint8_t> stable_;  // a bit each
};

const StableCharacters& StableIn(UnicodeForm form) {
  static const StableCharacters nfc(UnicodeForm::kNfc);
  if (form == UnicodeForm::kNfc) return nfc;
  static const StableCharacters nfd(UnicodeForm::kNfd);
  if (form == UnicodeForm::kNfd) return nfd;
  static const StableCharacters nfkc(UnicodeForm::kNfkc);
  if (form == UnicodeForm::kNfkc) return nfkc;
  static const StableCharacters nfkd(UnicodeForm::kNfkd);
  return nfkd;
}

// Returns the length of the ASCII at the start of a text.
size_t AsciiPrefix(std::string_view text) {
  size_t n = 0;
  for (; n + 16 <= text.size(); n += 16) {
    uint64_t words[2];
    std::memcpy(words, text.data() + n, sizeof(words));
    if (((words[0] | words[1]) & 0x8080808080808080U) != 0) break;
  }
  while (n < text.size() && static_cast<uint8_t>(text[n]) < 0x80) ++n;
  return n;
}

void AppendUtf8(int32_t codepoint, std::string* out) {
  uint8_t bytes[4];
  const auto n = utf8proc_encode_char(codepoint, bytes);
  out->append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(n));
}

// Goes through a text, copying what stays and rewriting what does not.
class FormWriter {
 public:
  FormWriter(std::string_view text, UnicodeForm form, std::string* out)
      : text_(text), form_(form), stable_(StableIn(form)), out_(out) {}

  // Returns whether anything was written: else the text is in the form.
  bool Write() {
    size_t at = 0;
    size_t last = 0;  // where the character before begins; its marks may change it
    while (at < text_.size()) {
      const size_t ascii = AsciiPrefix(text_.substr(at));
      if (ascii > 0) {
        at += ascii;
        last = at - 1;
        continue;
      }
      const Utf8Char c = FirstUtf8Char(text_.substr(at));
      if (Stays(c)) {
        last = c.status == Utf8Status::kValid ? at : at + c.n_bytes;
        at += c.n_bytes;
        continue;
      }
      at = Rewrite(last);
      last = at;
    }
    if (!changed_) return false;
    out_->append(text_.substr(copied_));
    return true;
  }

 private:
  bool Stays(const Utf8Char& c) const {
    return c.status != Utf8Status::kValid || stable_.Has(c.codepoint);
  }

  // Puts what begins at `begin`, and ends in front of the next character that stays, into the form.
  // Returns its end.
  size_t Rewrite(size_t begin) {
    parts_.clear();
    size_t end = begin;
    while (end < text_.size()) {
      const Utf8Char c = FirstUtf8Char(text_.substr(end));
      if (c.status != Utf8Status::kValid || (end > begin && stable_.Has(c.codepoint))) break;
      Decompose(static_cast<int32_t>(c.codepoint), form_, &parts_);
      end += c.n_bytes;
    }
    Finish(form_, &parts_);
    written_.clear();
    for (const int32_t part : parts_) AppendUtf8(part, &written_);
    if (written_ == text_.substr(begin, end - begin)) return end;
    if (!changed_) out_->clear();
    changed_ = true;
    out_->append(text_.substr(copied_, begin - copied_));
    out_->append(written_);
    copied_ = end;
    return end;
  }

  std::string_view text_;
  UnicodeForm form_;
  const StableCharacters& stable_;
  std::string* out_;
  bool changed_ = false;
  size_t copied_ = 0;  // of the text
  Codepoints parts_;
  std::string written_;
};

}  // namespace

std::string_view UnicodeFormName(UnicodeForm form) { return kNames[static_cast<size_t>(form)]; }

std::optional<UnicodeForm> FindUnicodeForm(std::string_view name) {
  const auto* found = std::find(std::begin(kNames), std::end(kNames), name);
  if (found == std::end(kNames)) return std::nullopt;
  return static_cast<UnicodeForm>(found - std::begin(kNames));
}

std::string_view ToUnicodeForm(std::string_view text, UnicodeForm form, std::string* buffer) {
  if (form == UnicodeForm::kNone || AsciiPrefix(text) == text.size()) return text;
  return FormWriter(text, form, buffer).Write() ? std::string_view(*buffer) : text;
}

}  // namespace thermocline
