// A client for measurements: one request at a time, whose answer is handed on as it comes.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace thermocline {

struct HttpUrl {
  std::string host;
  uint16_t port = 80;
  std::string path;  // before those of requests: "" or "/base"

  std::string HostHeader() const;
};
// "http://127.0.0.1:8080", "http://name/base". Throws Error for anything else.
HttpUrl ParseUrl(const std::string& url);

// What is asked. body: empty for a GET, else the body of a POST.
struct HttpQuestion {
  std::string path;  // behind the URL's
  std::string body = {};
  std::vector<std::pair<std::string, std::string>> headers = {};
};

// Asks, on a connection of its own. Calls on_body with pieces of the answer's body as they come;
// where that returns false no more is read. Returns the status. Throws Error where there is no
// connection, or the answer is no HTTP, breaks off, or is longer in coming than ten minutes.
int AskHttp(const HttpUrl& url, const HttpQuestion& question,
            const std::function<bool(std::string_view)>& on_body);

// Takes a stream of server-sent events apart.
class EventReader {
 public:
  // Returns the data of the events that are whole now, in their order; comments are left out.
  std::vector<std::string> Push(std::string_view piece);

 private:
  std::string rest_;
};

}  // namespace thermocline
