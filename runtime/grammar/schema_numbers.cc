#include "runtime/grammar/schema_numbers.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

namespace thermocline {
namespace {

constexpr size_t kIntegerDigits = 16;
constexpr size_t kNumberDigits = 15;

// A number's digits, without what adds nothing: no leading zero but a lone one, none at the end.
struct Decimal {
  bool negative = false;
  std::string whole = "0";
  std::string fraction = {};

  bool zero() const { return whole == "0" && fraction.empty(); }
};

struct Bound {
  Decimal at;
  bool excluded = false;
};

// Takes "-12.5e-3" apart.
Decimal DecimalOf(const SchemaJson& number) {
  const std::string text = number.dump();
  Decimal out;
  out.negative = text.front() == '-';
  std::string digits;
  int64_t point = -1;
  int64_t exponent = 0;
  for (size_t i = out.negative ? 1 : 0; i < text.size(); ++i) {
    if (text[i] == '.') {
      point = static_cast<int64_t>(digits.size());
    } else if (text[i] == 'e' || text[i] == 'E') {
      exponent = std::stoll(text.substr(i + 1));
      break;
    } else {
      digits += text[i];
    }
  }
  if (point < 0) point = static_cast<int64_t>(digits.size());
  point += exponent;  // a double's is within 400
  if (point < 0) digits.insert(0, static_cast<size_t>(-point), '0');
  const auto n_whole = static_cast<size_t>(std::max<int64_t>(point, 0));
  if (digits.size() < n_whole) digits.append(n_whole - digits.size(), '0');
  out.whole = digits.substr(0, n_whole);
  out.fraction = digits.substr(n_whole);
  out.whole.erase(0, std::min(out.whole.find_first_not_of('0'), out.whole.size()));
  if (out.whole.empty()) out.whole = "0";
  out.fraction.erase(out.fraction.find_last_not_of('0') + 1);
  if (out.zero()) out.negative = false;
  return out;
}

// Whether a is below b; both at least 0.
bool Below(const Decimal& a, const Decimal& b) {
  if (a.whole.size() != b.whole.size()) return a.whole.size() < b.whole.size();
  if (a.whole != b.whole) return a.whole < b.whole;
  return a.fraction < b.fraction;  // neither ends with zeros
}

bool BelowSigned(const Decimal& a, const Decimal& b) {
  if (a.negative != b.negative) return a.negative;
  return a.negative ? Below(b, a) : Below(a, b);
}

// The texts of numbers of at least 0 between two bounds, digit by digit: a text is `low` while it
// is the lower bound's so far, and `high` while it is the upper one's.
class DigitRange {
 public:
  DigitRange(Bound low, std::optional<Bound> high, bool integer, GbnfWriter& writer)
      : low_(std::move(low)), high_(std::move(high)), integer_(integer), writer_(writer) {}

  // Returns alternatives; none where no number lies between the bounds.
  std::vector<std::string> Alternatives() {
    std::vector<std::string> out;
    for (n_whole_ = 1; n_whole_ <= (integer_ ? kIntegerDigits : kNumberDigits); ++n_whole_) {
      const size_t n_low = low_.at.whole.size();
      const size_t n_high = high_ ? high_->at.whole.size() : kIntegerDigits + 1;
      if (n_low > n_whole_ || n_high < n_whole_) continue;
      const std::string part = Whole(0, n_low == n_whole_, n_high == n_whole_);
      if (!part.empty()) out.push_back(part);
    }
    return out;
  }

 private:
  size_t most_fraction() const { return integer_ ? 0 : kNumberDigits - n_whole_; }

  std::string FreeFraction() const {
    return most_fraction() == 0 ? ""
                                : fmt::format(R"gbnf( ("." [0-9]{{1,{}}})?)gbnf", most_fraction());
  }
  static std::string Digits(int first, int last) {
    return first == last ? fmt::format("\"{}\"", first) : fmt::format("[{}-{}]", first, last);
  }
  static int DigitAt(const std::string& digits, size_t at) {
    return at < digits.size() ? digits[at] - '0' : 0;
  }

  // Calls put(first, last, low, high) for ranges of a digit and what the text is behind it.
  template <typename Put>
  static void EachDigit(int low_digit, int high_digit, bool low, bool high, const Put& put) {
    if (low_digit > high_digit) return;
    if (low && high && low_digit == high_digit) return put(low_digit, low_digit, true, true);
    if (low) put(low_digit, low_digit, true, false);
    if (high) put(high_digit, high_digit, false, true);
    const int first = low_digit + (low ? 1 : 0);
    const int last = high_digit - (high ? 1 : 0);
    if (first <= last) put(first, last, false, false);
  }

  // Adds alternatives as a rule and returns its name; "" for none.
  std::string AsRule(const std::vector<std::string>& parts) {
    if (parts.empty()) return "";
    return writer_.Add("digits", fmt::format("{}", fmt::join(parts, " | ")));
  }

  // From the digit `at` of the whole part on.
  std::string Whole(size_t at, bool low, bool high) {
    if (at == n_whole_) return WholeEnd(low, high);
    const int least = at == 0 && n_whole_ > 1 ? 1 : 0;
    std::vector<std::string> parts;
    const auto put = [&](int first, int last, bool still_low, bool still_high) {
      if (!still_low && !still_high) {
        const size_t n_left = n_whole_ - at - 1;
        const std::string rest = n_left == 0 ? "" : fmt::format(" [0-9]{{{}}}", n_left);
        parts.push_back(Digits(first, last) + rest + FreeFraction());
        return;
      }
      const std::string rest = Whole(at + 1, still_low, still_high);
      if (!rest.empty()) parts.push_back(fmt::format("{} {}", Digits(first, last), rest));
    };
    EachDigit(low ? DigitAt(low_.at.whole, at) : least, high ? DigitAt(high_->at.whole, at) : 9,
              low, high, put);
    return AsRule(parts);
  }

  // Whether the text may end where so many digits of the fraction are written.
  bool MayEnd(size_t n_fraction, bool low, bool high) const {
    const auto is_all = [n_fraction](const Decimal& at) {
      return at.fraction.size() <= n_fraction;
    };
    if (low && (!is_all(low_.at) || low_.excluded)) return false;
    return !(high && high_->excluded && is_all(high_->at));
  }

  std::string WholeEnd(bool low, bool high) {
    const std::string fraction = most_fraction() == 0 ? "" : Fraction(0, low, high);
    std::vector<std::string> parts;
    if (MayEnd(0, low, high)) parts.emplace_back("\"\"");
    if (!fraction.empty()) parts.push_back(R"gbnf("." )gbnf" + fraction);
    return AsRule(parts);
  }

  // One more digit of the fraction and what follows it.
  std::string Fraction(size_t at, bool low, bool high) {
    std::vector<std::string> parts;
    const auto put = [&](int first, int last, bool still_low, bool still_high) {
      const size_t n_left = most_fraction() - at - 1;
      if (!still_low && !still_high) {
        parts.push_back(fmt::format("{} [0-9]{{0,{}}}", Digits(first, last), n_left));
        return;
      }
      const bool may_end = MayEnd(at + 1, still_low, still_high);
      const std::string rest = n_left == 0 ? "" : Fraction(at + 1, still_low, still_high);
      if (rest.empty() && !may_end) return;
      std::string part = Digits(first, last);
      if (!rest.empty()) part += " " + rest + (may_end ? "?" : "");
      parts.push_back(part);
    };
    EachDigit(low ? DigitAt(low_.at.fraction, at) : 0, high ? DigitAt(high_->at.fraction, at) : 9,
              low, high, put);
    return AsRule(parts);
  }

  Bound low_;
  std::optional<Bound> high_;
  bool integer_;
  GbnfWriter& writer_;
  size_t n_whole_ = 1;
};

// Returns the stricter of two keywords that bound one side, if there is one.
std::optional<Bound> BoundOf(const SchemaJson& schema, const char* keyword, const char* exclusive,
                             bool lower, const std::string& where) {
  std::optional<Bound> bound;
  const auto at = schema.find(keyword);
  if (at != schema.end()) {
    if (!at->is_number()) FailSchema(where, keyword, "a number", ShortJson(*at));
    bound = Bound{DecimalOf(*at)};
  }
  const auto excluded = schema.find(exclusive);
  if (excluded == schema.end()) return bound;
  if (excluded->is_boolean()) {  // as in the fourth draft
    if (bound) bound->excluded = excluded->get<bool>();
    return bound;
  }
  if (!excluded->is_number()) FailSchema(where, exclusive, "a number", ShortJson(*excluded));
  const Bound other{DecimalOf(*excluded), true};
  const bool stricter =
      !bound || (lower ? !BelowSigned(other.at, bound->at) : !BelowSigned(bound->at, other.at));
  return stricter ? other : bound;
}

Bound Negated(Bound bound) {
  bound.at.negative = !bound.at.negative && !bound.at.zero();
  return bound;
}

}  // namespace

std::string NumberRule(const SchemaJson& schema, bool integer, const std::string& where,
                       JsonRules& rules) {
  const auto low = BoundOf(schema, "minimum", "exclusiveMinimum", true, where);
  const auto high = BoundOf(schema, "maximum", "exclusiveMaximum", false, where);
  if (!low && !high) return integer ? rules.Integer() : rules.Number();
  std::vector<std::string> parts;
  // Below 0: the bounds change places.
  if (!low || low->at.negative) {
    const Bound least = high && high->at.negative ? Negated(*high) : Bound{Decimal{}, true};
    std::optional<Bound> most;
    if (low) most = Negated(*low);
    for (const std::string& part :
         DigitRange(least, most, integer, rules.writer()).Alternatives()) {
      parts.push_back("\"-\" " + part);
    }
  }
  if (!high || !high->at.negative) {
    const Bound least = low && !low->at.negative ? *low : Bound{};
    for (std::string& part : DigitRange(least, high, integer, rules.writer()).Alternatives()) {
      parts.push_back(std::move(part));
    }
  }
  if (parts.empty()) return rules.Nothing();
  return rules.writer().Add(integer ? "integer" : "number",
                            fmt::format("({}) {}", fmt::join(parts, " | "), rules.Space()));
}

}  // namespace thermocline
