#include "runtime/safetensors/bounded_json.h"

#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <unordered_set>
#include <vector>

#include "runtime/core/error.h"
#include "runtime/core/size_text.h"

namespace thermocline {
namespace {

using Json = nlohmann::json;

// Receives the parser's events before anything is built, and stops at the first that is out of
// bounds.
class BoundsChecker final : public Json::json_sax_t {
 public:
  explicit BoundsChecker(const JsonBounds& bounds) : bounds_(bounds) {}

  const std::string& what() const { return what_; }
  const std::string& expected() const { return expected_; }
  const std::string& found() const { return found_; }

  bool null() override { return Count(); }
  bool boolean(bool /*value*/) override { return Count(); }
  bool number_integer(number_integer_t /*value*/) override { return Count(); }
  bool number_unsigned(number_unsigned_t /*value*/) override { return Count(); }
  bool number_float(number_float_t /*value*/, const string_t& /*text*/) override { return Count(); }
  bool string(string_t& /*value*/) override { return Count(); }
  bool binary(binary_t& /*value*/) override { return Count(); }
  bool start_object(size_t /*n*/) override { return Enter(true); }
  bool start_array(size_t /*n*/) override { return Enter(false); }
  bool end_object() override { return Leave(); }
  bool end_array() override { return Leave(); }

  bool key(string_t& name) override {
    const auto [entry, is_new] = names_.back().insert(name);
    if (is_new) return Count();
    return Fail("a name that is there twice in one object", "each name once",
                fmt::format("\"{}\"", Printable(name)));
  }

  bool parse_error(size_t position, const std::string& /*last_token*/,
                   const Json::exception& /*error*/) override {
    return Fail("not JSON", "one JSON value", fmt::format("something else at byte {}", position));
  }

 private:
  bool Fail(std::string what, std::string expected, std::string found) {
    what_ = std::move(what);
    expected_ = std::move(expected);
    found_ = std::move(found);
    return false;
  }
  bool Count() {
    if (++n_values_ <= bounds_.max_values) return true;
    return Fail("JSON of too many values", fmt::format("at most {}", bounds_.max_values), "more");
  }
  bool Enter(bool is_object) {
    is_object_.push_back(is_object);
    if (is_object) names_.emplace_back();
    if (static_cast<int>(is_object_.size()) <= bounds_.max_depth) return Count();
    return Fail("JSON nested too deep", fmt::format("at most {} levels", bounds_.max_depth),
                "more");
  }
  bool Leave() {
    if (is_object_.back()) names_.pop_back();
    is_object_.pop_back();
    return true;
  }

  const JsonBounds& bounds_;
  uint64_t n_values_ = 0;
  std::vector<bool> is_object_;                         // one per open value
  std::vector<std::unordered_set<std::string>> names_;  // one per open object
  std::string what_, expected_, found_;
};

[[noreturn]] void FailSize(const std::string& path, uint64_t n_bytes, uint64_t max_bytes) {
  throw Error({.path = path,
               .what = "the file is too large to be what its name says",
               .expected = "at most " + FormatBytes(max_bytes),
               .found = FormatBytes(n_bytes)});
}

}  // namespace

Json ParseBoundedJson(std::string_view text, const std::string& path, const JsonBounds& bounds) {
  if (text.size() > bounds.max_bytes) FailSize(path, text.size(), bounds.max_bytes);
  BoundsChecker checker(bounds);
  if (!Json::sax_parse(text, &checker)) {
    throw Error({.path = path,
                 .what = checker.what(),
                 .expected = checker.expected(),
                 .found = checker.found(),
                 .hint = "the file is damaged: download or make it again"});
  }
  return Json::parse(text);
}

Json ReadJsonFile(const std::string& path, const JsonBounds& bounds) {
  return ParseBoundedJson(ReadWholeFile(path, bounds.max_bytes), path, bounds);
}

std::string ReadWholeFile(const std::string& path, uint64_t max_bytes) {
  std::error_code failed;
  const auto status = std::filesystem::status(path, failed);
  std::ifstream file(path, std::ios::binary);
  if (failed || !std::filesystem::is_regular_file(status) || !file) {
    throw Error({.path = path,
                 .what = "cannot read the file",
                 .expected = "a regular file",
                 .found = std::filesystem::exists(status) ? "something else" : "no such file"});
  }
  std::string text;
  const uint64_t n_bytes = std::filesystem::file_size(path, failed);
  if (failed) return text;
  if (n_bytes > max_bytes) FailSize(path, n_bytes, max_bytes);
  text.resize(n_bytes);
  file.read(text.data(), static_cast<std::streamsize>(n_bytes));
  if (static_cast<uint64_t>(file.gcount()) != n_bytes) {
    throw Error({.path = path, .what = "cannot read the whole file"});
  }
  return text;
}

std::string JsonKind(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null:
      return "null";
    case Json::value_t::object:
      return "an object";
    case Json::value_t::array:
      return fmt::format("an array of {}", value.size());
    case Json::value_t::string:
      return fmt::format("\"{}\"", Printable(value.get_ref<const std::string&>()));
    case Json::value_t::boolean:
      return value.get<bool>() ? "true" : "false";
    case Json::value_t::number_integer:
      return std::to_string(value.get<int64_t>());
    case Json::value_t::number_unsigned:
      return std::to_string(value.get<uint64_t>());
    case Json::value_t::number_float:
      return fmt::format("{}", value.get<double>());
    default:
      return "something else";
  }
}

}  // namespace thermocline
