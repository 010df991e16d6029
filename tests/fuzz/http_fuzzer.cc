// A libFuzzer harness of the bytes that a connection brings: requests, one after the other, which
// arrive in pieces of the first byte's size. Whatever they are, each is refused with a status, or
// is a request within the limits, and nothing of it can begin a header of the answer.
#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "tools/http/http_head.h"

namespace {

using thermocline::BodyLength;
using thermocline::HttpLimits;
using thermocline::HttpParser;
using thermocline::HttpRequest;
using thermocline::HttpResponse;

constexpr HttpLimits kLimits = {
    .head_bytes = 1024, .n_headers = 8, .target_bytes = 128, .body_bytes = 512};

void Expect(bool holds) {
  if (!holds) std::abort();
}

bool IsOneLine(const std::string& text) {
  return text.find_first_of(std::string("\r\n\0", 3)) == std::string::npos;
}

void UseRequest(const HttpRequest& request) {
  Expect(request.path.starts_with('/') && request.path.find('\0') == std::string::npos);
  Expect(request.body.size() <= kLimits.body_bytes);
  Expect(request.headers.size() <= kLimits.n_headers);
  HttpResponse response{.status = 200, .headers = {{"X-Path", request.path}}, .body = request.body};
  for (const auto& [name, value] : request.headers) {
    Expect(IsOneLine(name) && IsOneLine(value));
    Expect(std::none_of(name.begin(), name.end(), [](char c) { return c >= 'A' && c <= 'Z'; }));
    response.headers.emplace_back("X-" + name, value);
  }
  const std::string head = thermocline::HeadText(response, BodyLength::kKnown, true);
  size_t n_lines = 0;
  for (size_t at = head.find('\n'); at != std::string::npos; at = head.find('\n', at + 1)) {
    ++n_lines;
  }
  // The status, what server and content are, one line for each of the headers, length, connection,
  // and the empty one.
  Expect(n_lines == response.headers.size() + 6 && head.ends_with("\r\n\r\n"));
}

void ExpectStatus(const thermocline::HttpRefusal& refusal) {
  Expect(!thermocline::StatusText(refusal.status).empty() && refusal.status >= 400);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const size_t piece = data[0] + size_t{1};
  size_t begin = 1;
  while (begin < size) {
    HttpParser parser;
    parser.header_limit(static_cast<uint32_t>(kLimits.head_bytes));
    parser.body_limit(kLimits.body_bytes);
    HttpRequest request;
    size_t end = begin;
    bool has_head = false;
    while (!parser.is_done()) {
      end = std::min(end + piece, size);
      boost::beast::error_code error;
      const size_t n = parser.put(boost::asio::buffer(data + begin, end - begin), error);
      begin += n;
      if (error == boost::beast::http::error::need_more) {
        if (end == size) return 0;
        continue;
      }
      if (error) {
        if (const auto refused = thermocline::RefusalOf(error, true)) ExpectStatus(*refused);
        return 0;
      }
      if (parser.is_header_done() && !has_head) {
        has_head = true;
        if (const auto refused = thermocline::TakeHead(parser, kLimits, &request)) {
          ExpectStatus(*refused);
          return 0;
        }
      }
      if (n == 0 && end == size) return 0;
    }
    request.body = parser.get().body();
    UseRequest(request);
  }
  return 0;
}
