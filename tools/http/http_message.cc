#include "tools/http/http_message.h"

#include <fmt/format.h>

namespace thermocline {
namespace {

constexpr std::pair<int, std::string_view> kStatusTexts[] = {
    {200, "OK"},
    {204, "No Content"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {408, "Request Timeout"},
    {413, "Payload Too Large"},
    {414, "URI Too Long"},
    {417, "Expectation Failed"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {503, "Service Unavailable"},
};

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Undoes %41 and, in queries, '+'. Returns false for a bad escape and for NUL.
bool Unescape(std::string_view text, bool plus_is_space, std::string* plain) {
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '%') {
      if (i + 2 >= text.size()) return false;
      const int high = HexDigit(text[i + 1]);
      const int low = HexDigit(text[i + 2]);
      if (high < 0 || low < 0) return false;
      c = static_cast<char>(high * 16 + low);
      i += 2;
    } else if (plus_is_space && c == '+') {
      c = ' ';
    }
    if (c == '\0') return false;
    *plain += c;
  }
  return true;
}

bool ParseQuery(std::string_view text, std::map<std::string, std::string>* query) {
  while (!text.empty()) {
    const size_t end = text.find('&');
    const std::string_view pair = text.substr(0, end);
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
    const size_t equals = pair.find('=');
    std::string name;
    std::string value;
    if (!Unescape(pair.substr(0, equals), true, &name)) return false;
    if (equals != std::string_view::npos && !Unescape(pair.substr(equals + 1), true, &value)) {
      return false;
    }
    if (!name.empty()) query->insert_or_assign(std::move(name), std::move(value));
  }
  return true;
}

// A header's value as it may be sent: no line ends.
std::string OneLine(std::string_view value) {
  std::string line;
  for (const char c : value) {
    if (static_cast<unsigned char>(c) >= 0x20 && c != 0x7F) line += c;
  }
  return line;
}

}  // namespace

bool ParseTarget(std::string_view target, HttpRequest* request) {
  if (target.empty() || target.front() != '/') return false;
  const std::string_view without_fragment = target.substr(0, target.find('#'));
  const size_t question = without_fragment.find('?');
  if (!Unescape(without_fragment.substr(0, question), false, &request->path)) return false;
  return question == std::string_view::npos ||
         ParseQuery(without_fragment.substr(question + 1), &request->query);
}

std::string_view StatusText(int status) {
  for (const auto& [code, text] : kStatusTexts) {
    if (code == status) return text;
  }
  return "";
}

std::string HeadText(const HttpResponse& response, BodyLength length, bool keep_alive) {
  std::string head = fmt::format("HTTP/1.1 {} {}\r\nServer: thermocline\r\n", response.status,
                                 StatusText(response.status));
  if (!response.content_type.empty()) {
    head += fmt::format("Content-Type: {}\r\n", OneLine(response.content_type));
  }
  for (const auto& [name, value] : response.headers) {
    head += fmt::format("{}: {}\r\n", OneLine(name), OneLine(value));
  }
  if (length == BodyLength::kChunked) head += "Transfer-Encoding: chunked\r\n";
  if (length == BodyLength::kKnown) {
    head += fmt::format("Content-Length: {}\r\n", response.body.size());
  }
  head += keep_alive ? "Connection: keep-alive\r\n\r\n" : "Connection: close\r\n\r\n";
  return head;
}

}  // namespace thermocline
