// An HTTP/1.1 server for a program that answers slowly, in streams, and to clients that nobody
// trusts. It knows nothing of what is served. One thread of its own reads and writes all
// connections (Boost.Beast on Asio); a few workers run the handler.
//
// What it caps: bytes of a request's head and body, how many connections there are, how long a
// request takes to arrive, a connection idles, and a client takes to read. A client that reads too
// slowly is cut off: what waits to be sent is bounded, and nobody waits for it.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "tools/http/http_message.h"

namespace thermocline {

struct HttpLimits {
  uint64_t head_bytes = uint64_t{32} << 10;   // of a request, else 431
  uint64_t n_headers = 100;                   // else 431
  uint64_t target_bytes = uint64_t{8} << 10;  // else 414
  uint64_t body_bytes = uint64_t{32} << 20;   // else 413
  uint64_t unsent_bytes = uint64_t{8} << 20;  // that wait for a slow reader of a stream
  int64_t n_connections = 256;                // else 503 and closed
  int64_t n_workers = 4;
  std::chrono::milliseconds idle{75'000};        // between requests
  std::chrono::milliseconds head_time{15'000};   // for a head once its first byte is there: 408
  std::chrono::milliseconds body_time{120'000};  // for a body: 408
  std::chrono::milliseconds write_time{30'000};  // for one piece to be taken
  std::chrono::milliseconds silence{15'000};     // of a stream, until its heartbeat is sent
  std::chrono::milliseconds drain_time{30'000};  // for what runs when the server stops
};

// The answer to one request. Threads may call it at any time, also when the client is gone: then
// nothing happens. Either Send, or Begin, Write as often as there is something, and End. One that
// goes away before it has ended closes the connection, so that no client takes half of an answer
// for a whole one.
class HttpReply {
 public:
  virtual ~HttpReply() = default;
  virtual void Send(HttpResponse response) = 0;
  // Starts a stream: response.body is its first piece.
  virtual void Begin(HttpResponse response) = 0;
  virtual void Write(std::string piece) = 0;
  virtual void End() = 0;
  // `gone` is called once, soon after the client has gone or was cut off before the end; at once
  // where it has already. It must be quick.
  virtual void OnGone(std::function<void()> gone) = 0;
  virtual bool gone() const = 0;
};

class HttpHandler {
 public:
  virtual ~HttpHandler() = default;
  // Looks at a request before its body is read. An answer refuses it. Called on the network's
  // thread: must be quick.
  virtual std::optional<HttpResponse> Refuse(const HttpRequest& head) = 0;
  // Answers, now or later. Called on a worker; several at a time. What it throws is a 500.
  virtual void Handle(HttpRequest request, std::shared_ptr<HttpReply> reply) = 0;
  // The body of an answer that the server itself gives to a request that it cannot take.
  virtual HttpResponse ErrorResponse(int status, const std::string& message) = 0;
};

class HttpServer {
 public:
  // Listens at once; `handler` must outlive the server. port 0: any free one. Throws Error where it
  // cannot listen there.
  HttpServer(const std::string& host, uint16_t port, const HttpLimits& limits,
             HttpHandler& handler);
  // Stops, without waiting for answers.
  ~HttpServer();

  uint16_t port() const;
  int64_t n_connections() const;
  // Accepts no more connections, lets answers that are being made go out, at most
  // limits.drain_time, and closes. Returns whether all went out.
  bool Drain();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace thermocline
