#include "tools/bench/serve_trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <random>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

constexpr int64_t kMostTokens = int64_t{1} << 24;
constexpr size_t kMostRequests = 1'000'000;
constexpr double kMostMs = 1e9;

class TraceLine {
 public:
  TraceLine(const std::string& text, const std::string& path, int64_t line)
      : path_(path), line_(line) {
    try {
      object_ = nlohmann::json::parse(text);
    } catch (const nlohmann::json::exception& error) {
      Fail("JSON", Printable(error.what(), 120));
    }
    if (!object_.is_object()) Fail("an object", object_.type_name());
  }

  ServedRequest Read() const {
    for (const auto& [key, value] : object_.items()) {
      static constexpr const char* kKeys[] = {"arrival_ms", "prompt_tokens", "max_tokens",
                                              "shared_tokens", "group"};
      if (std::ranges::find(kKeys, key) == std::end(kKeys)) Fail("known keys", Printable(key));
    }
    ServedRequest request;
    request.arrival_ms = Number("arrival_ms", 0, kMostMs);
    request.prompt_tokens = Whole("prompt_tokens", 1, kMostTokens);
    request.max_tokens = Whole("max_tokens", 1, kMostTokens);
    if (object_.contains("shared_tokens")) {
      request.shared_tokens = Whole("shared_tokens", 0, request.prompt_tokens);
    }
    if (object_.contains("group")) {
      if (!object_["group"].is_string()) Fail("group: a text", object_["group"].type_name());
      request.group = object_["group"].get<std::string>();
    }
    return request;
  }

 private:
  [[noreturn]] void Fail(const std::string& expected, const std::string& found) const {
    throw Error({.path = path_,
                 .what = fmt::format("line {}", line_),
                 .expected = expected,
                 .found = found});
  }
  double Number(const char* key, double least, double most) const {
    const bool there = object_.contains(key) && object_[key].is_number();
    const double value = there ? object_[key].get<double>() : NAN;
    if (value >= least && value <= most) return value;
    Fail(fmt::format("{}: a number from {} to {}", key, least, most),
         object_.contains(key) ? Printable(object_[key].dump()) : "none");
  }
  int64_t Whole(const char* key, int64_t least, int64_t most) const {
    const double value = Number(key, static_cast<double>(least), static_cast<double>(most));
    if (value == std::floor(value)) return static_cast<int64_t>(value);
    Fail(fmt::format("{}: a whole number", key), Printable(object_[key].dump()));
  }

  const std::string& path_;
  int64_t line_;
  nlohmann::json object_;
};

}  // namespace

std::vector<ServedRequest> ParseServeTrace(const std::string& text, const std::string& path) {
  std::vector<ServedRequest> trace;
  int64_t line = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string one = text.substr(begin, end - begin);
    begin = end + 1;
    ++line;
    if (one.find_first_not_of(" \t\r") == std::string::npos) continue;
    trace.push_back(TraceLine(one, path, line).Read());
    if (trace.size() > kMostRequests) {
      throw Error({.path = path,
                   .what = "too many requests",
                   .expected = fmt::format("at most {}", kMostRequests)});
    }
  }
  if (trace.empty()) throw Error({.path = path, .what = "no request is in it"});
  std::ranges::stable_sort(trace, {}, &ServedRequest::arrival_ms);
  return trace;
}

std::vector<ServedRequest> MakeServeTrace(const LoadShape& shape) {
  std::mt19937_64 random(shape.seed);
  std::vector<ServedRequest> trace;
  double now_ms = 0;
  for (int64_t i = 0; i < shape.n_requests; ++i) {
    trace.push_back({.arrival_ms = now_ms,
                     .prompt_tokens = shape.prompt_tokens,
                     .max_tokens = shape.max_tokens,
                     .shared_tokens = shape.shared_tokens});
    // An exponential interval from 53 bits, the same with every C++ library.
    const double u = (static_cast<double>(random() >> 11) + 0.5) * 0x1.0p-53;
    if (shape.requests_per_s > 0) now_ms -= 1000 * std::log(u) / shape.requests_per_s;
  }
  return trace;
}

std::vector<std::vector<int32_t>> MakeServePrompts(const std::vector<ServedRequest>& trace,
                                                   int64_t vocab_size) {
  std::mt19937 random(1);
  const auto some = [&](int64_t n, std::vector<int32_t>* to) {
    while (static_cast<int64_t>(to->size()) < n) {
      to->push_back(static_cast<int32_t>(random() % static_cast<uint32_t>(vocab_size)));
    }
  };
  std::map<std::string, std::vector<int32_t>> beginnings;
  for (const ServedRequest& request : trace) {
    some(request.shared_tokens, &beginnings[request.group]);
  }
  std::vector<std::vector<int32_t>> prompts;
  for (const ServedRequest& request : trace) {
    const std::vector<int32_t>& beginning = beginnings[request.group];
    prompts.emplace_back(beginning.begin(), beginning.begin() + request.shared_tokens);
    some(request.prompt_tokens, &prompts.back());
  }
  return prompts;
}

}  // namespace thermocline
