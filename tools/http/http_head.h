// From the head of a request, as the parser has it, to HttpRequest; and what is said to one that
// cannot be taken.
#pragma once

#include <boost/beast/core/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "tools/http/http_server.h"

namespace thermocline {

using HttpParser = boost::beast::http::request_parser<boost::beast::http::string_body>;

// The status of an answer, and what was wrong, in words.
struct HttpRefusal {
  int status = 0;
  const char* what = "";
};

// Takes the head over into the request. Returns a refusal where it cannot be taken.
// REQUIRES: parser.is_header_done().
std::optional<HttpRefusal> TakeHead(const HttpParser& parser, const HttpLimits& limits,
                                    HttpRequest* request);

// What was wrong with a request that could not be read; nullopt: nobody is told. got_some: some of
// it had come.
std::optional<HttpRefusal> RefusalOf(const boost::beast::error_code& error, bool got_some);

std::string LowerCase(std::string_view text);

}  // namespace thermocline
