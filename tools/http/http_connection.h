// One connection: requests that come one after the other, each with its answer. All of it runs on
// the network's thread; others hand over what they have through HttpReply.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "tools/http/http_head.h"
#include "tools/http/http_server.h"

namespace thermocline {

// What all connections of a server share.
struct HttpShared {
  HttpLimits limits;
  HttpHandler* handler = nullptr;
  boost::asio::thread_pool* workers = nullptr;
  bool draining = false;  // on the network's thread only
};

class HttpExchange;

class HttpConnection : public std::enable_shared_from_this<HttpConnection> {
 public:
  HttpConnection(boost::asio::ip::tcp::socket socket, HttpShared& shared);
  void Start() { ReadHead(); }
  // Says in one answer that it takes no requests, and closes.
  void Refuse(const HttpResponse& response);
  // The server stops: closes a connection that waits for a request, and others after their answer.
  void Drain();
  // Closes at once.
  void Close();

  // ---- of the exchange, by HttpReply ----
  void BeginReply(const HttpExchange* exchange, HttpResponse response, bool is_whole);
  void WriteReply(const HttpExchange* exchange, std::string piece);
  void EndReply(const HttpExchange* exchange);
  void AbandonReply(const HttpExchange* exchange);
  boost::beast::tcp_stream& stream() { return stream_; }

 private:
  enum class State : unsigned char { kWaiting, kReading, kAnswering, kClosing };

  void ReadHead();
  // The head and the body must have arrived by then. The stream's own timer would close the socket,
  // and nobody could be told.
  void AllowTime(std::chrono::milliseconds time);
  // What reading ended with: the time's end where that was what ended it.
  boost::beast::error_code EndTime(boost::beast::error_code error);
  void OnHead(boost::beast::error_code error);
  void ReadBody();
  void Dispatch();
  // Answers a request that is not read to its end.
  void Fail(boost::beast::error_code error);
  void RespondAndClose(const HttpResponse& response);
  // Notices a client that hangs up while it waits for an answer.
  void Watch();
  void OnReadable(const HttpExchange* watched);
  void ClientGone();
  void Queue(std::string bytes);
  void WriteNext();
  void OnWritten(boost::beast::error_code error);
  void FinishReply();
  // Sends the stream's heartbeat when it has been silent for long enough, again and again.
  void AwaitSilence();
  // Closes once the client has taken the answer: bytes of it that are still under way would be lost
  // if the socket were closed while bytes of the client wait there unread.
  void Linger();
  void ReadAway();

  boost::beast::tcp_stream stream_;
  HttpShared& shared_;
  boost::beast::flat_buffer buffer_;
  std::optional<HttpParser> parser_;
  State state_ = State::kWaiting;
  HttpRequest request_;
  std::shared_ptr<HttpExchange> exchange_;
  bool is_head_ = false;  // HEAD: no body is sent
  bool http_10_ = false;  // knows no chunks
  bool keep_alive_ = false;
  bool began_ = false;
  bool chunked_ = false;
  bool ended_ = false;
  std::deque<std::string> unsent_;
  uint64_t unsent_bytes_ = 0;
  std::string heartbeat_;  // of the stream; empty: none
  boost::asio::steady_timer silence_;
  boost::asio::steady_timer deadline_;  // of what is being read
  bool timed_out_ = false;
  uint64_t read_away_ = 0;
  std::string discarded_;
};

// A request that is being answered, as its HttpReply and its connection see it.
class HttpExchange {
 public:
  explicit HttpExchange(std::weak_ptr<HttpConnection> of) : connection_(std::move(of)) {}
  std::shared_ptr<HttpConnection> connection() const { return connection_.lock(); }
  bool gone() const;
  void OnGone(std::function<void()> gone);
  void SetGone();
  // The answer is out: nobody is told any more that the client went.
  void SetDone();

 private:
  std::weak_ptr<HttpConnection> connection_;
  mutable std::mutex mutex_;
  bool gone_ = false;
  bool done_ = false;
  std::function<void()> on_gone_;
};

std::shared_ptr<HttpReply> MakeReply(boost::asio::any_io_executor network,
                                     std::shared_ptr<HttpExchange> exchange);

}  // namespace thermocline
