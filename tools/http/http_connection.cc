// Of a connection: how requests are read. http_answer.cc has how answers are written.
#include "tools/http/http_connection.h"

#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/beast/core/error.hpp>
#include <boost/beast/http/read.hpp>
#include <exception>
#include <utility>

namespace thermocline {
namespace {

namespace beast = boost::beast;
namespace http = boost::beast::http;

std::string LowerCase(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) {
    return static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  });
  return lower;
}

std::string_view View(const beast::string_view& text) { return {text.data(), text.size()}; }

// The status that says what was wrong with a request, and in words; 0: nobody is told.
std::pair<int, const char*> StatusOf(const beast::error_code& error, bool got_some) {
  if (error == beast::error::timeout) {
    return got_some ? std::pair{408, "the request took too long to arrive"} : std::pair{0, ""};
  }
  if (error == http::error::body_limit) return {413, "the request's body is too long"};
  if (error == http::error::header_limit) return {431, "the request's head is too long"};
  if (error.category() == make_error_code(http::error::bad_method).category() &&
      error != http::error::end_of_stream && error != http::error::partial_message) {
    return {400, "the request is not well-formed HTTP/1.1"};
  }
  return {0, ""};
}

}  // namespace

HttpConnection::HttpConnection(boost::asio::ip::tcp::socket socket, HttpShared& shared)
    : stream_(std::move(socket)), shared_(shared) {}

void HttpConnection::ReadHead() {
  state_ = State::kWaiting;
  parser_.emplace();
  parser_->header_limit(static_cast<uint32_t>(shared_.limits.head_bytes));
  parser_->body_limit(shared_.limits.body_bytes);
  request_ = {};
  // A connection may idle; a head that has begun to come may not take long.
  if (buffer_.size() > 0) {
    stream_.expires_after(shared_.limits.head_time);
    http::async_read_header(
        stream_, buffer_, *parser_,
        [self = shared_from_this()](beast::error_code error, size_t) { self->OnHead(error); });
    return;
  }
  stream_.expires_after(shared_.limits.idle);
  constexpr size_t kFirstBytes = 4096;
  stream_.async_read_some(buffer_.prepare(kFirstBytes),
                          [self = shared_from_this()](beast::error_code error, size_t n_bytes) {
                            if (error) return self->Close();
                            self->buffer_.commit(n_bytes);
                            self->stream_.expires_after(self->shared_.limits.head_time);
                            http::async_read_header(self->stream_, self->buffer_, *self->parser_,
                                                    [self](beast::error_code head_error, size_t) {
                                                      self->OnHead(head_error);
                                                    });
                          });
}

void HttpConnection::OnHead(beast::error_code error) {
  if (state_ == State::kClosing) return;
  state_ = State::kReading;
  if (error) return Fail(error);
  if (const auto refused = TakeHead()) return RespondAndClose(*refused);
  const std::string expects = LowerCase(request_.Header("expect"));
  if (!expects.empty() && expects != "100-continue") {
    return RespondAndClose(
        shared_.handler->ErrorResponse(417, "only 100-continue can be expected"));
  }
  if (const auto refused = shared_.handler->Refuse(request_)) return RespondAndClose(*refused);
  if (!expects.empty()) Queue("HTTP/1.1 100 Continue\r\n\r\n");
  ReadBody();
}

std::optional<HttpResponse> HttpConnection::TakeHead() {
  const auto& message = parser_->get();
  const auto error = [this](int status, const char* what) {
    return shared_.handler->ErrorResponse(status, what);
  };
  keep_alive_ = message.keep_alive();
  http_10_ = message.version() < 11;
  request_.method = View(message.method_string());
  is_head_ = request_.method == "HEAD";
  if (message.target().size() > shared_.limits.target_bytes) {
    return error(414, "the request's target is too long");
  }
  if (!ParseTarget(View(message.target()), &request_)) {
    return error(400, "the request's target is not well-formed");
  }
  uint64_t n_headers = 0;
  for (const auto& field : message) {
    if (++n_headers > shared_.limits.n_headers) return error(431, "too many headers");
    request_.headers.insert_or_assign(LowerCase(View(field.name_string())),
                                      std::string(View(field.value())));
  }
  return std::nullopt;
}

void HttpConnection::ReadBody() {
  if (parser_->is_done()) return Dispatch();
  stream_.expires_after(shared_.limits.body_time);
  http::async_read(stream_, buffer_, *parser_,
                   [self = shared_from_this()](beast::error_code error, size_t) {
                     if (self->state_ == State::kClosing) return;
                     if (error) return self->Fail(error);
                     self->Dispatch();
                   });
}

void HttpConnection::Dispatch() {
  request_.body = std::move(parser_->get().body());
  state_ = State::kAnswering;
  began_ = false;
  ended_ = false;
  exchange_ = std::make_shared<HttpExchange>(weak_from_this());
  auto reply = MakeReply(stream_.get_executor(), exchange_);
  Watch();
  boost::asio::post(*shared_.workers, [handler = shared_.handler, request = std::move(request_),
                                       reply = std::move(reply)]() mutable {
    const auto answer = reply;
    try {
      handler->Handle(std::move(request), std::move(reply));
    } catch (const std::exception& error) {
      answer->Send(handler->ErrorResponse(500, error.what()));
    }
  });
}

void HttpConnection::Fail(beast::error_code error) {
  const auto [status, what] = StatusOf(error, parser_->got_some());
  if (status == 0) return Close();
  RespondAndClose(shared_.handler->ErrorResponse(status, what));
}

void HttpConnection::Watch() {
  stream_.socket().async_wait(
      boost::asio::ip::tcp::socket::wait_read,
      [self = shared_from_this(), watched = exchange_.get()](beast::error_code error) {
        if (!error) self->OnReadable(watched);
      });
}

void HttpConnection::OnReadable(const HttpExchange* watched) {
  if (state_ != State::kAnswering || exchange_.get() != watched) return;
  char byte = 0;
  const ssize_t n = ::recv(stream_.socket().native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  if (n > 0) return;  // the next request: it waits until this one is answered
  if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return Watch();
  ClientGone();
}

void HttpConnection::ClientGone() {
  if (exchange_) exchange_->SetGone();
  Close();
}

void HttpConnection::Drain() {
  keep_alive_ = false;
  if (state_ == State::kWaiting) Close();
}

void HttpConnection::Close() {
  state_ = State::kClosing;
  if (exchange_) exchange_->SetGone();
  exchange_.reset();
  beast::error_code ignored;
  stream_.socket().close(ignored);
}

}  // namespace thermocline
