// What a server and its clients say to each other over HTTP/1.1, without the bytes.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace thermocline {

struct HttpRequest {
  std::string method;  // "GET"
  std::string path;    // "/v1/models": percent-decoded, without the query
  std::map<std::string, std::string> query;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;

  // Empty where there is none. name: in lower case.
  std::string_view Header(const std::string& name) const {
    const auto found = headers.find(name);
    return found == headers.end() ? std::string_view() : std::string_view(found->second);
  }
  std::string_view Query(const std::string& name) const {
    const auto found = query.find(name);
    return found == query.end() ? std::string_view() : std::string_view(found->second);
  }
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json; charset=utf-8";  // empty: no body
  std::vector<std::pair<std::string, std::string>> headers = {};
  std::string body = {};
  // Of a stream: what is sent when it has said nothing for a while (HttpLimits::silence), so that
  // nobody on the way takes the connection for dead. Empty: nothing.
  std::string heartbeat = {};
};

// Splits the target of a request ("/slots/0?action=save") into path and query. Returns false for
// one that is not well-formed: no leading '/', a bad escape, an encoded NUL.
bool ParseTarget(std::string_view target, HttpRequest* request);

// "Not Found"; "" for a status that has no name here.
std::string_view StatusText(int status);

// The lines before the body, with the empty one. chunked: the body comes in chunks, else as long as
// response.body is (has_length), or until the connection ends.
enum class BodyLength : unsigned char { kKnown, kChunked, kUntilClosed };
std::string HeadText(const HttpResponse& response, BodyLength length, bool keep_alive);

}  // namespace thermocline
