// "%s is %5.2f" % values.
#include <fmt/format.h>

#include <algorithm>

#include "runtime/text/jinja/format_text.h"
#include "runtime/text/jinja/operators.h"
#include "runtime/text/jinja/text_of_value.h"
#include "runtime/text/jinja/unicode.h"

namespace thermocline::jinja {
namespace {

class PercentFormatter {
 public:
  PercentFormatter(Runtime& runtime, const std::string& format, const Value& values)
      : runtime_(runtime), format_(format), values_(values) {}

  Value Run() {
    while (at_ < format_.size()) {
      if (format_[at_] != '%') {
        out_ += format_[at_++];
        continue;
      }
      ++at_;
      Convert();
      runtime_.budget().CheckSize(out_.size());
    }
    const bool is_tuple = values_.Is(Kind::kList) && values_.as_list().is_tuple;
    const size_t n_values = is_tuple ? values_.as_list().items.size() : 1;
    if (next_ < n_values && !values_.Is(Kind::kDict) && !values_.Is(Kind::kList)) {
      Fail("a format takes fewer values than it is given");
    }
    if (is_tuple && next_ < n_values) Fail("a format takes fewer values than it is given");
    return runtime_.Text(std::move(out_));
  }

 private:
  char peek() const { return at_ < format_.size() ? format_[at_] : '\0'; }

  Value NextValue() {
    if (values_.Is(Kind::kList) && values_.as_list().is_tuple) {
      const std::vector<Value>& items = values_.as_list().items;
      if (next_ >= items.size()) Fail("a format takes more values than it is given");
      return items[next_++];
    }
    if (next_++ > 0) Fail("a format takes more values than it is given");
    return values_;
  }

  int64_t ReadNumber() {
    if (peek() == '*') {
      ++at_;
      const Value width = NextValue();
      return width.IsInteger() ? width.as_int() : 0;
    }
    int64_t number = 0;
    for (; peek() >= '0' && peek() <= '9'; ++at_) {
      number = std::min<int64_t>(number * 10 + (peek() - '0'), INT32_MAX);
    }
    return number;
  }

  void ReadFlags(FieldStyle* style) {
    for (; peek() != '\0' && std::string_view("-+ 0#").find(peek()) != std::string_view::npos;
         ++at_) {
      if (peek() == '-') style->left = true;
      if (peek() == '0') style->zeros = true;
      if (peek() == '#') style->alternate = true;
      if (peek() == '+' || (peek() == ' ' && style->sign != '+')) style->sign = peek();
    }
  }

  void Convert() {
    std::optional<Value> named;
    if (peek() == '(') {
      const size_t end = format_.find(')', at_);
      if (end == std::string::npos) Fail("a format with a '(' that is not closed");
      named = GetItem(runtime_, values_, runtime_.Text(format_.substr(at_ + 1, end - at_ - 1)));
      at_ = end + 1;
    }
    FieldStyle style;
    ReadFlags(&style);
    style.width = ReadNumber();
    if (peek() == '.') {
      ++at_;
      style.precision = ReadNumber();
    }
    const char type = peek();
    ++at_;
    if (type == '%') {
      out_ += '%';
      return;
    }
    const Value value = named.has_value() ? *named : NextValue();
    if (type == 's' || type == 'r' || type == 'a') return AppendText(value, type, style);
    if (style.zeros) style.fill = "0";
    const char number_type = type == 'i' || type == 'u' ? 'd' : type;
    out_ += FillField(runtime_, NumberField(value, number_type, style), style, true);
  }

  void AppendText(const Value& value, char type, FieldStyle style) {
    std::string text = type == 's' ? TextOf(runtime_, value) : ReprOf(runtime_, value);
    if (style.precision >= 0) {
      const std::vector<size_t> offsets = CharacterOffsets(text);
      text.resize(offsets[std::min(offsets.size() - 1, static_cast<size_t>(style.precision))]);
    }
    style.zeros = false;
    out_ += FillField(runtime_, text, style, true);
  }

  Runtime& runtime_;
  const std::string& format_;
  const Value& values_;
  std::string out_;
  size_t at_ = 0;
  size_t next_ = 0;
};

}  // namespace

Value FormatPercent(Runtime& runtime, const std::string& format, const Value& values) {
  return PercentFormatter(runtime, format, values).Run();
}

}  // namespace thermocline::jinja
