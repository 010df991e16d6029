// Of a connection: how requests are read. http_answer.cc has how answers are written.
#include "tools/http/http_connection.h"

#include <sys/socket.h>

#include <boost/asio/post.hpp>
#include <boost/beast/core/error.hpp>
#include <boost/beast/http/read.hpp>
#include <exception>
#include <utility>

namespace thermocline {
namespace {

namespace beast = boost::beast;
namespace http = boost::beast::http;

}  // namespace

HttpConnection::HttpConnection(boost::asio::ip::tcp::socket socket, HttpShared& shared)
    : stream_(std::move(socket)),
      shared_(shared),
      silence_(stream_.get_executor()),
      deadline_(stream_.get_executor()) {}

void HttpConnection::AllowTime(std::chrono::milliseconds time) {
  stream_.expires_never();
  timed_out_ = false;
  deadline_.expires_after(time);
  deadline_.async_wait([weak = weak_from_this()](boost::system::error_code error) {
    const auto self = weak.lock();
    if (error || self == nullptr) return;
    // It may have been set anew, or have become needless, just when it went off.
    const bool reads = self->state_ == State::kWaiting || self->state_ == State::kReading;
    if (!reads || self->deadline_.expiry() > std::chrono::steady_clock::now()) return;
    self->timed_out_ = true;
    self->stream_.cancel();
  });
}

beast::error_code HttpConnection::EndTime(beast::error_code error) {
  deadline_.cancel();
  if (error && std::exchange(timed_out_, false)) return beast::error::timeout;
  return error;
}

void HttpConnection::ReadHead() {
  state_ = State::kWaiting;
  parser_.emplace();
  parser_->header_limit(static_cast<uint32_t>(shared_.limits.head_bytes));
  parser_->body_limit(shared_.limits.body_bytes);
  request_ = {};
  // A connection may idle; a head that has begun to come may not take long.
  if (buffer_.size() > 0) {
    AllowTime(shared_.limits.head_time);
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
                            self->AllowTime(self->shared_.limits.head_time);
                            http::async_read_header(self->stream_, self->buffer_, *self->parser_,
                                                    [self](beast::error_code head_error, size_t) {
                                                      self->OnHead(head_error);
                                                    });
                          });
}

void HttpConnection::OnHead(beast::error_code error) {
  error = EndTime(error);
  if (state_ == State::kClosing) return;
  state_ = State::kReading;
  if (error) return Fail(error);
  keep_alive_ = parser_->get().keep_alive();
  http_10_ = parser_->get().version() < 11;
  is_head_ = parser_->get().method() == http::verb::head;
  if (const auto refused = TakeHead(*parser_, shared_.limits, &request_)) {
    return RespondAndClose(shared_.handler->ErrorResponse(refused->status, refused->what));
  }
  const std::string expects = LowerCase(request_.Header("expect"));
  if (!expects.empty() && expects != "100-continue") {
    return RespondAndClose(
        shared_.handler->ErrorResponse(417, "only 100-continue can be expected"));
  }
  if (const auto refused = shared_.handler->Refuse(request_)) return RespondAndClose(*refused);
  if (!expects.empty()) Queue("HTTP/1.1 100 Continue\r\n\r\n");
  ReadBody();
}

void HttpConnection::ReadBody() {
  if (parser_->is_done()) return Dispatch();
  AllowTime(shared_.limits.body_time);
  http::async_read(stream_, buffer_, *parser_,
                   [self = shared_from_this()](beast::error_code error, size_t) {
                     error = self->EndTime(error);
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
  const auto refused = RefusalOf(error, parser_->got_some());
  if (!refused) return Close();
  RespondAndClose(shared_.handler->ErrorResponse(refused->status, refused->what));
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
  silence_.cancel();
  deadline_.cancel();
  beast::error_code ignored;
  stream_.socket().close(ignored);
}

}  // namespace thermocline
