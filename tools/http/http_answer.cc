// Of a connection: how answers are written.
#include <fmt/format.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/error.hpp>
#include <utility>

#include "tools/http/http_connection.h"

namespace thermocline {
namespace {

namespace beast = boost::beast;

// What is read and thrown away of a request that was refused, before the connection is closed
// hard.
constexpr uint64_t kReadAwayBytes = uint64_t{64} << 20;
constexpr std::chrono::milliseconds kLingerTime{2000};
constexpr size_t kReadAwayPiece = size_t{64} << 10;

std::string Chunk(std::string_view piece) {
  return fmt::format("{:x}\r\n{}\r\n", piece.size(), piece);
}

}  // namespace

void HttpConnection::BeginReply(const HttpExchange* exchange, HttpResponse response,
                                bool is_whole) {
  if (exchange_.get() != exchange || state_ != State::kAnswering || began_) return;
  began_ = true;
  if (shared_.draining) keep_alive_ = false;
  BodyLength length = BodyLength::kKnown;
  if (!is_whole) length = http_10_ ? BodyLength::kUntilClosed : BodyLength::kChunked;
  if (length == BodyLength::kUntilClosed) keep_alive_ = false;
  chunked_ = length == BodyLength::kChunked;
  std::string bytes = HeadText(response, length, keep_alive_);
  if (is_head_) {
    ended_ = true;
  } else if (is_whole) {
    bytes += response.body;
    ended_ = true;
  } else if (!response.body.empty()) {
    bytes += chunked_ ? Chunk(response.body) : response.body;
  }
  heartbeat_ = is_whole || is_head_ ? std::string() : std::move(response.heartbeat);
  Queue(std::move(bytes));
  AwaitSilence();
}

// Whatever is written begins the wait anew.
void HttpConnection::AwaitSilence() {
  if (heartbeat_.empty() || ended_ || state_ != State::kAnswering) return;
  silence_.expires_after(shared_.limits.silence);
  silence_.async_wait([weak = weak_from_this()](boost::system::error_code error) {
    const auto self = weak.lock();
    if (error || self == nullptr || self->ended_ || self->state_ != State::kAnswering) return;
    // A client that has yet to take what was sent needs no sign of life.
    if (self->unsent_.empty()) {
      self->Queue(self->chunked_ ? Chunk(self->heartbeat_) : self->heartbeat_);
    }
    self->AwaitSilence();
  });
}

void HttpConnection::WriteReply(const HttpExchange* exchange, std::string piece) {
  if (exchange_.get() != exchange || !began_ || ended_ || piece.empty()) return;
  Queue(chunked_ ? Chunk(piece) : std::move(piece));
  AwaitSilence();
}

void HttpConnection::EndReply(const HttpExchange* exchange) {
  if (exchange_.get() != exchange || !began_ || ended_) return;
  ended_ = true;
  silence_.cancel();
  if (chunked_) return Queue("0\r\n\r\n");
  if (unsent_.empty()) FinishReply();
}

void HttpConnection::AbandonReply(const HttpExchange* exchange) {
  if (exchange_.get() == exchange && !ended_) Close();
}

void HttpConnection::Queue(std::string bytes) {
  // A whole answer may be long; what is bounded is what piles up while a stream is not read.
  if (!unsent_.empty() && unsent_bytes_ + bytes.size() > shared_.limits.unsent_bytes) {
    return ClientGone();
  }
  unsent_bytes_ += bytes.size();
  unsent_.push_back(std::move(bytes));
  if (unsent_.size() == 1) WriteNext();
}

void HttpConnection::WriteNext() {
  // A body may be on its way in while "100 Continue" goes out: its time goes on.
  if (state_ != State::kReading) stream_.expires_after(shared_.limits.write_time);
  boost::asio::async_write(
      stream_, boost::asio::buffer(unsent_.front()),
      [self = shared_from_this()](beast::error_code error, size_t) { self->OnWritten(error); });
}

void HttpConnection::OnWritten(beast::error_code error) {
  if (error) return ClientGone();
  unsent_bytes_ -= unsent_.front().size();
  unsent_.pop_front();
  if (!unsent_.empty()) return WriteNext();
  if (state_ == State::kClosing) {
    if (stream_.socket().is_open()) Linger();
    return;
  }
  if (state_ == State::kAnswering && ended_) FinishReply();
}

void HttpConnection::FinishReply() {
  exchange_->SetDone();
  exchange_.reset();
  if (keep_alive_ && !shared_.draining) return ReadHead();
  state_ = State::kClosing;
  Linger();
}

void HttpConnection::RespondAndClose(const HttpResponse& response) {
  state_ = State::kClosing;
  std::string bytes = HeadText(response, BodyLength::kKnown, false);
  if (!is_head_) bytes += response.body;
  Queue(std::move(bytes));
}

void HttpConnection::Refuse(const HttpResponse& response) { RespondAndClose(response); }

void HttpConnection::Linger() {
  beast::error_code ignored;
  stream_.socket().shutdown(boost::asio::ip::tcp::socket::shutdown_send, ignored);
  stream_.expires_after(kLingerTime);
  discarded_.resize(kReadAwayPiece);
  ReadAway();
}

void HttpConnection::ReadAway() {
  stream_.async_read_some(boost::asio::buffer(discarded_),
                          [self = shared_from_this()](beast::error_code error, size_t n_bytes) {
                            self->read_away_ += n_bytes;
                            if (error || self->read_away_ > kReadAwayBytes) return self->Close();
                            self->ReadAway();
                          });
}

}  // namespace thermocline
