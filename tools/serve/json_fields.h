// Reads the JSON that clients send: with caps, and with messages that name the field, what was
// expected there and what was found.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/serve/api_error.h"

namespace thermocline {

struct JsonLimits {
  size_t depth = 64;
  size_t n_values = size_t{1} << 20;  // in all
  size_t n_members = 1024;            // of one object
};

// Throws ApiError (400) for what is no JSON, or exceeds a limit.
ApiJson ParseBody(std::string_view text, const JsonLimits& limits = {});

// The members of an object. A member that is null counts as absent. All methods throw ApiError
// (400) where a member is there and is not what is asked for.
class Fields {
 public:
  // path: where the object stands, for messages ("messages[2]"); empty: the request itself. Throws
  // ApiError where `json` is no object. `json` must outlive this.
  explicit Fields(const ApiJson& json, std::string path = "");

  const ApiJson& json() const { return json_; }
  // The member, or null where it is absent.
  const ApiJson* Find(const char* name) const;
  bool Has(const char* name) const { return Find(name) != nullptr; }
  std::optional<bool> Bool(const char* name) const;
  std::optional<int64_t> Integer(const char* name, int64_t least, int64_t most) const;
  std::optional<double> Number(const char* name, double least, double most) const;
  std::optional<std::string> Text(const char* name) const;
  const ApiJson* Array(const char* name) const;
  const ApiJson* Object(const char* name) const;
  // As Text; throws where it is absent, too.
  std::string RequiredText(const char* name) const;
  const ApiJson& RequiredArray(const char* name) const;
  // A text, or an array of texts.
  std::vector<std::string> Texts(const char* name, size_t most) const;
  std::string PathOf(const char* name) const;

 private:
  const ApiJson& json_;
  std::string path_;
};

// "'temperature': expected a number from 0 to 2, found a text"
[[noreturn]] void FailField(const std::string& path, const std::string& expected,
                            const ApiJson* found);
// "a text", "the number 7"
std::string Describe(const ApiJson& json);

}  // namespace thermocline
