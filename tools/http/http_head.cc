#include "tools/http/http_head.h"

#include <algorithm>
#include <boost/beast/http/error.hpp>

namespace thermocline {
namespace {

namespace beast = boost::beast;
namespace http = boost::beast::http;

std::string_view TextOfView(const beast::string_view& text) { return {text.data(), text.size()}; }

}  // namespace

std::string LowerCase(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) {
    return static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  });
  return lower;
}

std::optional<HttpRefusal> TakeHead(const HttpParser& parser, const HttpLimits& limits,
                                    HttpRequest* request) {
  const auto& message = parser.get();
  request->method = TextOfView(message.method_string());
  if (message.target().size() > limits.target_bytes) {
    return HttpRefusal{414, "the request's target is too long"};
  }
  if (!ParseTarget(TextOfView(message.target()), request)) {
    return HttpRefusal{400, "the request's target is not well-formed"};
  }
  uint64_t n_headers = 0;
  for (const auto& field : message) {
    if (++n_headers > limits.n_headers) return HttpRefusal{431, "too many headers"};
    request->headers.insert_or_assign(LowerCase(TextOfView(field.name_string())),
                                      std::string(TextOfView(field.value())));
  }
  return std::nullopt;
}

std::optional<HttpRefusal> RefusalOf(const beast::error_code& error, bool got_some) {
  if (error == beast::error::timeout) {
    if (!got_some) return std::nullopt;
    return HttpRefusal{408, "the request took too long to arrive"};
  }
  if (error == http::error::body_limit) return HttpRefusal{413, "the request's body is too long"};
  if (error == http::error::header_limit) return HttpRefusal{431, "the request's head is too long"};
  if (error.category() == make_error_code(http::error::bad_method).category() &&
      error != http::error::end_of_stream && error != http::error::partial_message) {
    return HttpRefusal{400, "the request is not well-formed HTTP/1.1"};
  }
  return std::nullopt;
}

}  // namespace thermocline
