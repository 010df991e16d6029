#include "tools/serve/json_fields.h"

#include <fmt/format.h>

#include <cmath>
#include <utility>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

[[noreturn]] void FailLimit(const std::string& what, size_t limit) {
  throw ApiError(ApiErrorKind::kInvalidRequest,
                 fmt::format("the request's body: {}, expected at most {}", what, limit));
}

// Counts what a parser meets, and stops it.
class LimitCheck {
 public:
  explicit LimitCheck(const JsonLimits& limits) : limits_(limits) {}
  bool operator()(int depth, ApiJson::parse_event_t event, ApiJson& /*parsed*/) {
    using Event = ApiJson::parse_event_t;
    if (event == Event::object_start || event == Event::array_start) {
      if (static_cast<size_t>(depth) >= limits_.depth) {
        FailLimit("arrays and objects nest too deep", limits_.depth);
      }
      n_members_.push_back(0);
    } else if (event == Event::object_end || event == Event::array_end) {
      n_members_.pop_back();
    } else if (event == Event::key) {
      if (++n_members_.back() > limits_.n_members) {
        FailLimit("an object has too many members", limits_.n_members);
      }
    }
    if (++n_values_ > limits_.n_values) FailLimit("it has too many values", limits_.n_values);
    return true;
  }

 private:
  const JsonLimits& limits_;
  std::vector<size_t> n_members_;
  size_t n_values_ = 0;
};

}  // namespace

ApiJson ParseBody(std::string_view text, const JsonLimits& limits) {
  LimitCheck check(limits);
  try {
    return ApiJson::parse(text, [&check](int depth, ApiJson::parse_event_t event, ApiJson& parsed) {
      return check(depth, event, parsed);
    });
  } catch (const ApiJson::exception& error) {
    throw ApiError(ApiErrorKind::kInvalidRequest,
                   "the request's body is not JSON: " + Printable(error.what(), 200));
  }
}

std::string Describe(const ApiJson& json) {
  switch (json.type()) {
    case ApiJson::value_t::null:
      return "null";
    case ApiJson::value_t::object:
      return "an object";
    case ApiJson::value_t::array:
      return fmt::format("an array of {}", json.size());
    case ApiJson::value_t::string:
      return fmt::format("the text '{}'", Printable(json.get_ref<const std::string&>(), 60));
    case ApiJson::value_t::boolean:
      return json.get<bool>() ? "true" : "false";
    case ApiJson::value_t::number_integer:
    case ApiJson::value_t::number_unsigned:
    case ApiJson::value_t::number_float:
      return "the number " + json.dump();
    default:
      return "nothing";
  }
}

void FailField(const std::string& path, const std::string& expected, const ApiJson* found) {
  throw ApiError(ApiErrorKind::kInvalidRequest,
                 fmt::format("'{}': expected {}, found {}", path, expected,
                             found == nullptr ? "nothing" : Describe(*found)),
                 {{"param", path}});
}

Fields::Fields(const ApiJson& json, std::string path) : json_(json), path_(std::move(path)) {
  if (json.is_object()) return;
  if (!path_.empty()) FailField(path_, "an object", &json);
  throw ApiError(ApiErrorKind::kInvalidRequest,
                 "the request's body: expected an object, found " + Describe(json));
}

std::string Fields::PathOf(const char* name) const {
  return path_.empty() ? name : path_ + "." + name;
}

const ApiJson* Fields::Find(const char* name) const {
  const auto found = json_.find(name);
  return found == json_.end() || found->is_null() ? nullptr : &*found;
}

std::optional<bool> Fields::Bool(const char* name) const {
  const ApiJson* found = Find(name);
  if (found == nullptr) return std::nullopt;
  if (!found->is_boolean()) FailField(PathOf(name), "true or false", found);
  return found->get<bool>();
}

std::optional<int64_t> Fields::Integer(const char* name, int64_t least, int64_t most) const {
  const ApiJson* found = Find(name);
  if (found == nullptr) return std::nullopt;
  // 3.0 is a whole number, too; past 2^53 not every one is, and no field takes such a one.
  constexpr double kExact = 9007199254740992.0;
  std::optional<int64_t> value;
  if (found->is_number_unsigned()) {
    const auto large = found->get<uint64_t>();
    if (large <= static_cast<uint64_t>(INT64_MAX)) value = static_cast<int64_t>(large);
  } else if (found->is_number_integer()) {
    value = found->get<int64_t>();
  } else if (found->is_number_float()) {
    const auto real = found->get<double>();
    if (std::abs(real) < kExact && real == std::floor(real)) value = static_cast<int64_t>(real);
  }
  if (value && *value >= least && *value <= most) return value;
  FailField(PathOf(name), fmt::format("a whole number from {} to {}", least, most), found);
}

std::optional<double> Fields::Number(const char* name, double least, double most) const {
  const ApiJson* found = Find(name);
  if (found == nullptr) return std::nullopt;
  if (found->is_number()) {
    const auto value = found->get<double>();
    if (value >= least && value <= most) return value;
  }
  FailField(PathOf(name), fmt::format("a number from {} to {}", least, most), found);
}

std::optional<std::string> Fields::Text(const char* name) const {
  const ApiJson* found = Find(name);
  if (found == nullptr) return std::nullopt;
  if (!found->is_string()) FailField(PathOf(name), "a text", found);
  return found->get<std::string>();
}

const ApiJson* Fields::Array(const char* name) const {
  const ApiJson* found = Find(name);
  if (found != nullptr && !found->is_array()) FailField(PathOf(name), "an array", found);
  return found;
}

const ApiJson* Fields::Object(const char* name) const {
  const ApiJson* found = Find(name);
  if (found != nullptr && !found->is_object()) FailField(PathOf(name), "an object", found);
  return found;
}

std::string Fields::RequiredText(const char* name) const {
  auto text = Text(name);
  if (!text) FailField(PathOf(name), "a text", nullptr);
  return *std::move(text);
}

const ApiJson& Fields::RequiredArray(const char* name) const {
  const ApiJson* array = Array(name);
  if (array == nullptr) FailField(PathOf(name), "an array", nullptr);
  return *array;
}

std::vector<std::string> Fields::Texts(const char* name, size_t most) const {
  const ApiJson* found = Find(name);
  std::vector<std::string> texts;
  if (found == nullptr) return texts;
  const std::string expected = fmt::format("a text, or an array of at most {}", most);
  if (found->is_string()) {
    texts.push_back(found->get<std::string>());
  } else if (found->is_array() && found->size() <= most) {
    for (const ApiJson& item : *found) {
      if (!item.is_string()) FailField(PathOf(name), expected, &item);
      texts.push_back(item.get<std::string>());
    }
  } else {
    FailField(PathOf(name), expected, found);
  }
  return texts;
}

}  // namespace thermocline
