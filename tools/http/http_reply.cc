// HttpReply: hands what any thread has to say to the network's thread.
#include <boost/asio/post.hpp>
#include <mutex>
#include <utility>

#include "tools/http/http_connection.h"

namespace thermocline {

bool HttpExchange::gone() const {
  const std::lock_guard lock(mutex_);
  return gone_;
}

void HttpExchange::OnGone(std::function<void()> gone) {
  {
    const std::lock_guard lock(mutex_);
    if (!gone_) {
      if (!done_) on_gone_ = std::move(gone);
      return;
    }
  }
  gone();
}

void HttpExchange::SetGone() {
  std::function<void()> call;
  {
    const std::lock_guard lock(mutex_);
    if (gone_ || done_) return;
    gone_ = true;
    call = std::move(on_gone_);
    on_gone_ = nullptr;
  }
  if (call) call();
}

void HttpExchange::SetDone() {
  std::function<void()> drop;  // what it holds goes away without the lock
  const std::lock_guard lock(mutex_);
  done_ = true;
  drop.swap(on_gone_);
}

namespace {

class PostedReply : public HttpReply {
 public:
  PostedReply(boost::asio::any_io_executor network, std::shared_ptr<HttpExchange> exchange)
      : network_(std::move(network)), exchange_(std::move(exchange)) {}
  PostedReply(const PostedReply&) = delete;
  PostedReply& operator=(const PostedReply&) = delete;
  ~PostedReply() override {
    Post([](HttpConnection& connection, const HttpExchange* exchange) {
      connection.AbandonReply(exchange);
    });
  }

  void Send(HttpResponse response) override {
    Post([response = std::move(response)](HttpConnection& connection,
                                          const HttpExchange* exchange) mutable {
      connection.BeginReply(exchange, std::move(response), true);
    });
  }
  void Begin(HttpResponse response) override {
    Post([response = std::move(response)](HttpConnection& connection,
                                          const HttpExchange* exchange) mutable {
      connection.BeginReply(exchange, std::move(response), false);
    });
  }
  void Write(std::string piece) override {
    if (exchange_->gone()) return;
    Post([piece = std::move(piece)](HttpConnection& connection,
                                    const HttpExchange* exchange) mutable {
      connection.WriteReply(exchange, std::move(piece));
    });
  }
  void End() override {
    Post([](HttpConnection& connection, const HttpExchange* exchange) {
      connection.EndReply(exchange);
    });
  }
  void OnGone(std::function<void()> gone) override { exchange_->OnGone(std::move(gone)); }
  bool gone() const override { return exchange_->gone(); }

 private:
  template <typename F>
  void Post(F act) {
    boost::asio::post(network_, [exchange = exchange_, act = std::move(act)]() mutable {
      if (const auto connection = exchange->connection()) act(*connection, exchange.get());
    });
  }

  boost::asio::any_io_executor network_;
  std::shared_ptr<HttpExchange> exchange_;
};

}  // namespace

std::shared_ptr<HttpReply> MakeReply(boost::asio::any_io_executor network,
                                     std::shared_ptr<HttpExchange> exchange) {
  return std::make_shared<PostedReply>(std::move(network), std::move(exchange));
}

}  // namespace thermocline
