#include "tools/http/http_server.h"

#include <fmt/format.h>

#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <future>
#include <set>
#include <thread>
#include <utility>

#include "runtime/core/error.h"
#include "runtime/core/held_signals.h"
#include "tools/http/http_connection.h"

namespace thermocline {
namespace {

using boost::asio::ip::tcp;

tcp::endpoint Resolve(boost::asio::io_context& network, const std::string& host, uint16_t port) {
  boost::system::error_code error;
  tcp::resolver resolver(network);
  const auto found = resolver.resolve(host, std::to_string(port), tcp::resolver::passive, error);
  if (error || found.empty()) {
    throw Error({.what = fmt::format("no such address to listen on: '{}'", Printable(host)),
                 .expected = "an address of this machine, 127.0.0.1 or 0.0.0.0",
                 .found = error.message()});
  }
  return found.begin()->endpoint();
}

tcp::acceptor Listen(boost::asio::io_context& network, const std::string& host, uint16_t port) {
  const tcp::endpoint endpoint = Resolve(network, host, port);
  try {
    return {network, endpoint, true};
  } catch (const boost::system::system_error& error) {
    throw Error({.what = fmt::format("cannot listen on {}:{}", Printable(host), port),
                 .found = error.code().message(),
                 .hint = "choose another port, or stop what listens there"});
  }
}

}  // namespace

struct HttpServer::Impl {
  Impl(const std::string& host, uint16_t port, const HttpLimits& limits, HttpHandler& handler)
      : acceptor(Listen(network, host, port)),
        retry(network),
        workers(static_cast<size_t>(limits.n_workers)) {
    shared.limits = limits;
    shared.handler = &handler;
    shared.workers = &workers;
    bound_port = acceptor.local_endpoint().port();
  }

  void Accept() {
    acceptor.async_accept([this](boost::system::error_code error, tcp::socket socket) {
      if (!acceptor.is_open()) return;
      if (error) return AcceptLater();
      Take(std::move(socket));
      Accept();
    });
  }
  // Out of descriptors, say: tries again when some may be free.
  void AcceptLater() {
    retry.expires_after(std::chrono::milliseconds(100));
    retry.async_wait([this](boost::system::error_code error) {
      if (!error && acceptor.is_open()) Accept();
    });
  }
  void Take(tcp::socket socket) {
    boost::system::error_code ignored;
    socket.set_option(tcp::no_delay(true), ignored);
    Forget();
    auto connection = std::make_shared<HttpConnection>(std::move(socket), shared);
    const bool is_room = n_open < shared.limits.n_connections;
    connections.insert(connection);
    n_open = static_cast<int64_t>(connections.size());
    if (is_room) return connection->Start();
    connection->Refuse(shared.handler->ErrorResponse(503, "too many connections"));
  }
  // Drops those that are closed.
  void Forget() {
    std::erase_if(connections, [](const auto& connection) { return connection.expired(); });
    n_open = static_cast<int64_t>(connections.size());
  }
  std::vector<std::shared_ptr<HttpConnection>> Open() {
    std::vector<std::shared_ptr<HttpConnection>> open;
    for (const auto& weak : connections) {
      if (auto connection = weak.lock()) open.push_back(std::move(connection));
    }
    return open;
  }

  boost::asio::io_context network{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work{
      network.get_executor()};
  tcp::acceptor acceptor;
  boost::asio::steady_timer retry;
  boost::asio::thread_pool workers;
  HttpShared shared;
  uint16_t bound_port = 0;
  std::set<std::weak_ptr<HttpConnection>, std::owner_less<>> connections;
  std::atomic<int64_t> n_open = 0;
  std::thread thread;
};

HttpServer::HttpServer(const std::string& host, uint16_t port, const HttpLimits& limits,
                       HttpHandler& handler) {
  // Threads inherit the mask: signals are for the thread that waits for them.
  const HeldSignals held;
  impl_ = std::make_unique<Impl>(host, port, limits, handler);
  impl_->Accept();
  impl_->thread = std::thread([impl = impl_.get()] { impl->network.run(); });
}

HttpServer::~HttpServer() {
  boost::asio::post(impl_->network, [impl = impl_.get()] {
    boost::system::error_code ignored;
    impl->acceptor.close(ignored);
    impl->retry.cancel();
    for (const auto& connection : impl->Open()) connection->Close();
  });
  impl_->workers.join();
  impl_->work.reset();
  impl_->thread.join();
}

uint16_t HttpServer::port() const { return impl_->bound_port; }
int64_t HttpServer::n_connections() const { return impl_->n_open; }

bool HttpServer::Drain() {
  boost::asio::post(impl_->network, [impl = impl_.get()] {
    boost::system::error_code ignored;
    impl->acceptor.close(ignored);
    impl->retry.cancel();
    impl->shared.draining = true;
    for (const auto& connection : impl->Open()) connection->Drain();
  });
  const auto until = std::chrono::steady_clock::now() + impl_->shared.limits.drain_time;
  while (std::chrono::steady_clock::now() < until) {
    std::promise<bool> none;
    boost::asio::post(impl_->network, [impl = impl_.get(), &none] {
      impl->Forget();
      none.set_value(impl->connections.empty());
    });
    if (none.get_future().get()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

}  // namespace thermocline
