#include "tools/http/http_client.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/buffer_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/http/write.hpp>
#include <charconv>
#include <limits>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::asio::ip::tcp;

constexpr std::string_view kScheme = "http://";
constexpr time_t kLongestSilenceSeconds = 600;

[[noreturn]] void FailUrl(const std::string& url) {
  throw Error({.what = "the address of a server",
               .expected = "http://HOST, http://HOST:PORT, or one of them and a path",
               .found = "'" + Printable(url) + "'"});
}

[[noreturn]] void FailConnection(const HttpUrl& url, const std::string& what) {
  throw Error({.what = fmt::format("{}: no answer", url.HostHeader()),
               .found = what,
               .hint = "is the server running there?"});
}

tcp::socket Connect(boost::asio::io_context& network, const HttpUrl& url) {
  tcp::socket socket(network);
  boost::system::error_code error;
  const auto found = tcp::resolver(network).resolve(url.host, std::to_string(url.port), error);
  if (!error) boost::asio::connect(socket, found, error);
  if (error) FailConnection(url, error.message());
  const timeval longest{kLongestSilenceSeconds, 0};
  ::setsockopt(socket.native_handle(), SOL_SOCKET, SO_RCVTIMEO, &longest, sizeof(longest));
  return socket;
}

http::request<http::string_body> MakeRequest(const HttpUrl& url, const HttpQuestion& question) {
  http::request<http::string_body> request;
  request.method(question.body.empty() ? http::verb::get : http::verb::post);
  request.target(url.path + question.path);
  request.version(11);
  request.set(http::field::host, url.HostHeader());
  request.set(http::field::connection, "close");
  if (!question.body.empty()) request.set(http::field::content_type, "application/json");
  for (const auto& [name, value] : question.headers) request.set(name, value);
  request.body() = question.body;
  request.prepare_payload();
  return request;
}

}  // namespace

std::string HttpUrl::HostHeader() const { return fmt::format("{}:{}", host, port); }

HttpUrl ParseUrl(const std::string& url) {
  if (!url.starts_with(kScheme)) FailUrl(url);
  const std::string rest = url.substr(kScheme.size());
  const size_t slash = std::min(rest.find('/'), rest.size());
  const size_t colon = rest.substr(0, slash).rfind(':');
  HttpUrl parsed;
  parsed.host = rest.substr(0, std::min(colon, slash));
  parsed.path = rest.substr(slash);
  while (parsed.path.ends_with('/')) parsed.path.pop_back();
  if (parsed.host.empty() || url.find_first_of(" \r\n?#@") != std::string::npos) FailUrl(url);
  if (colon == std::string::npos) return parsed;
  const std::string port = rest.substr(colon + 1, slash - colon - 1);
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), parsed.port);
  if (error != std::errc() || end != port.data() + port.size() || parsed.port == 0) FailUrl(url);
  return parsed;
}

int AskHttp(const HttpUrl& url, const HttpQuestion& question,
            const std::function<bool(std::string_view)>& on_body) {
  boost::asio::io_context network;
  tcp::socket socket = Connect(network, url);
  beast::error_code error;
  http::write(socket, MakeRequest(url, question), error);
  if (error) FailConnection(url, error.message());
  beast::flat_buffer buffer;
  http::response_parser<http::buffer_body> parser;
  parser.body_limit(std::numeric_limits<uint64_t>::max());
  http::read_header(socket, buffer, parser, error);
  if (error) FailConnection(url, error.message());
  char piece[16384];
  while (!parser.is_done()) {
    parser.get().body().data = piece;
    parser.get().body().size = sizeof(piece);
    http::read_some(socket, buffer, parser, error);
    if (error && error != http::error::need_buffer) FailConnection(url, error.message());
    const size_t n_bytes = sizeof(piece) - parser.get().body().size;
    if (n_bytes > 0 && !on_body({piece, n_bytes})) break;
  }
  return parser.get().result_int();
}

std::vector<std::string> EventReader::Push(std::string_view piece) {
  rest_ += piece;
  std::vector<std::string> events;
  size_t end = 0;
  while ((end = rest_.find("\n\n")) != std::string::npos) {
    std::string data;
    for (size_t at = 0; at < end;) {
      const size_t line_end = std::min(rest_.find('\n', at), end);
      std::string_view line = std::string_view(rest_).substr(at, line_end - at);
      at = line_end + 1;
      if (!line.starts_with("data:")) continue;
      line.remove_prefix(5);
      if (line.starts_with(' ')) line.remove_prefix(1);
      if (!data.empty()) data += '\n';
      data += line;
    }
    if (!data.empty()) events.push_back(std::move(data));
    rest_.erase(0, end + 2);
  }
  return events;
}

}  // namespace thermocline
