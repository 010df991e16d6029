// The server against clients that behave and clients that do not, over sockets.
#include "tools/http/http_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace thermocline {
namespace {

using std::chrono::milliseconds;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using Tcp = boost::asio::ip::tcp;

// Waits for something that another thread does; false after ten seconds.
bool Comes(const std::function<bool()>& condition) {
  for (int i = 0; i < 2000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(milliseconds(5));
  }
  return false;
}

class Client {
 public:
  explicit Client(uint16_t port) {
    socket_.connect({boost::asio::ip::make_address("127.0.0.1"), port});
  }
  void Send(const std::string& text) { boost::asio::write(socket_, boost::asio::buffer(text)); }
  // What comes until the server closes, or until `end` has come.
  std::string Read(const std::string& end = "\x01 never") {
    std::string text;
    char piece[4096];
    boost::system::error_code error;
    while (text.find(end) == std::string::npos) {
      const size_t n = socket_.read_some(boost::asio::buffer(piece), error);
      if (error) break;
      text.append(piece, n);
    }
    return text;
  }
  std::string Ask(const std::string& text) {
    Send(text);
    return Read();
  }
  void Close() { socket_.close(); }
  void ShrinkReceiveBuffer() { socket_.set_option(Tcp::socket::receive_buffer_size(4096)); }

 private:
  boost::asio::io_context context_;
  Tcp::socket socket_{context_};
};

// Answers /echo with the body, /stream with three pieces, and leaves others to the test.
class Handler : public HttpHandler {
 public:
  std::optional<HttpResponse> Refuse(const HttpRequest& head) override {
    if (head.path != "/secret") return std::nullopt;
    return HttpResponse{.status = 401, .body = "who are you"};
  }
  void Handle(HttpRequest request, std::shared_ptr<HttpReply> reply) override {
    ++n_handled;
    if (request.path == "/echo") return reply->Send({.body = request.method + " " + request.body});
    if (request.path == "/throws") throw std::runtime_error("broken");
    if (request.path == "/stream") {
      reply->Begin({.content_type = "text/event-stream", .body = "one,"});
      reply->Write("two,");
      reply->Write("three");
      return reply->End();
    }
    const std::lock_guard lock(mutex);
    reply->OnGone([this] { ++n_gone; });
    replies.push_back(std::move(reply));
  }
  HttpResponse ErrorResponse(int status, const std::string& message) override {
    return {.status = status, .body = message};
  }
  // A reply that waits for the test.
  std::shared_ptr<HttpReply> Taken() {
    std::shared_ptr<HttpReply> reply;
    EXPECT_TRUE(Comes([&] {
      const std::lock_guard lock(mutex);
      if (replies.empty()) return false;
      reply = std::move(replies.front());
      replies.erase(replies.begin());
      return true;
    }));
    return reply;
  }

  std::atomic<int> n_handled = 0;
  std::atomic<int> n_gone = 0;
  std::mutex mutex;
  std::vector<std::shared_ptr<HttpReply>> replies;
};

std::string Post(const std::string& path, const std::string& body, const std::string& more = {}) {
  return "POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(body.size()) +
         "\r\n" + more + "\r\n" + body;
}

constexpr const char* kClose = "Connection: close\r\n";

TEST(HttpServer, AnswersOneRequestAfterTheOther) {
  Handler handler;
  HttpServer server("127.0.0.1", 0, {}, handler);
  Client client(server.port());
  client.Send(Post("/echo", "first"));
  EXPECT_THAT(client.Read("first"), StartsWith("HTTP/1.1 200 OK\r\n"));
  // The next two come together, and in pieces.
  const std::string two = Post("/echo", "second") + Post("/echo", "third", kClose);
  client.Send(two.substr(0, 50));
  std::this_thread::sleep_for(milliseconds(20));
  client.Send(two.substr(50));
  const std::string answers = client.Read();
  EXPECT_LT(answers.find("POST second"), answers.find("POST third"));
  EXPECT_THAT(answers, EndsWith("POST third"));
}

TEST(HttpServer, ReadsChunksAndWritesThem) {
  Handler handler;
  HttpServer server("127.0.0.1", 0, {}, handler);
  EXPECT_THAT(Client(server.port())
                  .Ask("POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" +
                       std::string(kClose) + "\r\n4\r\nsome\r\n5\r\n body\r\n0\r\n\r\n"),
              EndsWith("POST some body"));
  EXPECT_THAT(Client(server.port()).Ask(Post("/stream", "", kClose)),
              EndsWith("4\r\none,\r\n4\r\ntwo,\r\n5\r\nthree\r\n0\r\n\r\n"));
  // HTTP/1.0 knows no chunks: the end of the connection is the end of the body.
  EXPECT_THAT(Client(server.port()).Ask("GET /stream HTTP/1.0\r\n\r\n"), EndsWith("one,two,three"));
  EXPECT_THAT(Client(server.port()).Ask("HEAD /stream HTTP/1.1\r\n" + std::string(kClose) + "\r\n"),
              EndsWith("\r\n\r\n"));
}

TEST(HttpServer, SaysWhatIsWrongWithARequest) {
  Handler handler;
  HttpServer server("127.0.0.1", 0,
                    {.head_bytes = 2000,
                     .n_headers = 5,
                     .target_bytes = 100,
                     .body_bytes = 1000,
                     .head_time = milliseconds(150),
                     .body_time = milliseconds(150)},
                    handler);
  const auto answer = [&](const std::string& text) { return Client(server.port()).Ask(text); };
  EXPECT_THAT(answer("rubbish\r\n\r\n"), StartsWith("HTTP/1.1 400 "));
  EXPECT_THAT(answer("GET nowhere HTTP/1.1\r\n\r\n"), StartsWith("HTTP/1.1 400 "));
  EXPECT_THAT(answer("GET /" + std::string(100, 'a') + " HTTP/1.1\r\n\r\n"),
              StartsWith("HTTP/1.1 414 "));
  EXPECT_THAT(answer("GET / HTTP/1.1\r\nA: " + std::string(2000, 'a') + "\r\n\r\n"),
              StartsWith("HTTP/1.1 431 "));
  EXPECT_THAT(answer("GET / HTTP/1.1\r\nA:1\r\nB:1\r\nC:1\r\nD:1\r\nE:1\r\nF:1\r\n\r\n"),
              StartsWith("HTTP/1.1 431 "));
  EXPECT_THAT(answer(Post("/echo", std::string(1001, 'a'))), StartsWith("HTTP/1.1 413 "));
  EXPECT_THAT(answer("POST /echo HTTP/1.1\r\nExpect: magic\r\nContent-Length: 1\r\n\r\n"),
              StartsWith("HTTP/1.1 417 "));
  EXPECT_THAT(answer("GET / HTTP/1.1\r\nA: 1"), StartsWith("HTTP/1.1 408 "));
  EXPECT_THAT(answer("POST /echo HTTP/1.1\r\nContent-Length: 9\r\n\r\nhalf"),
              StartsWith("HTTP/1.1 408 "));
  EXPECT_EQ(handler.n_handled, 0);
  EXPECT_THAT(answer(Post("/throws", "", kClose)), StartsWith("HTTP/1.1 500 "));
  // Refused before the body, which is as long as nobody would read it.
  EXPECT_THAT(answer("POST /secret HTTP/1.1\r\nContent-Length: 999\r\n\r\n"),
              StartsWith("HTTP/1.1 401 "));
  EXPECT_THAT(answer("POST /echo HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n" +
                     std::string(kClose) + "\r\nok"),
              ::testing::AllOf(StartsWith("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK"),
                               EndsWith("POST ok")));
}

TEST(HttpServer, TakesNoMoreConnectionsThanItMay) {
  Handler handler;
  HttpServer server("127.0.0.1", 0, {.n_connections = 2}, handler);
  Client first(server.port());
  Client second(server.port());
  first.Send(Post("/echo", "a"));
  second.Send(Post("/echo", "b"));
  first.Read("POST a");
  second.Read("POST b");
  EXPECT_EQ(server.n_connections(), 2);
  EXPECT_THAT(Client(server.port()).Read(), StartsWith("HTTP/1.1 503 "));
  first.Close();
  EXPECT_TRUE(Comes([&] {
    Client third(server.port());
    third.Send(Post("/echo", "c", kClose));
    return third.Read().find("POST c") != std::string::npos;
  }));
}

TEST(HttpServer, TellsThatAClientHasGone) {
  Handler handler;
  HttpServer server("127.0.0.1", 0, {}, handler);
  {
    Client client(server.port());
    client.Send(Post("/later", ""));
    const auto reply = handler.Taken();
    EXPECT_FALSE(reply->gone());
    client.Close();
    EXPECT_TRUE(Comes([&] { return handler.n_gone == 1 && reply->gone(); }));
    reply->Send({.body = "nobody hears this"});
  }
  // Who is told later is told at once, and who got his answer is not told.
  Client client(server.port());
  client.Send(Post("/later", ""));
  handler.Taken()->Send({.body = "here"});
  EXPECT_THAT(client.Read("here"), EndsWith("here"));
  client.Close();
  std::this_thread::sleep_for(milliseconds(50));
  EXPECT_EQ(handler.n_gone, 1);
}

TEST(HttpServer, AnAnswerThatNobodyEndsIsNotTakenForAWholeOne) {
  Handler handler;
  HttpServer server("127.0.0.1", 0, {}, handler);
  Client client(server.port());
  client.Send(Post("/later", ""));
  auto reply = handler.Taken();
  reply->Begin({.body = "half"});
  reply.reset();
  const std::string answer = client.Read();
  EXPECT_THAT(answer, HasSubstr("half"));
  EXPECT_THAT(answer, Not(HasSubstr("0\r\n\r\n")));
}

TEST(HttpServer, CutsASlowReaderOff) {
  Handler handler;
  HttpServer server("127.0.0.1", 0, {.unsent_bytes = 100'000}, handler);
  Client client(server.port());
  client.ShrinkReceiveBuffer();
  client.Send(Post("/later", ""));
  const auto reply = handler.Taken();
  reply->Begin({.body = "begins"});
  // What the system's buffers take is not the server's to count.
  for (int i = 0; i < 5000 && !reply->gone(); ++i) reply->Write(std::string(10'000, 'x'));
  EXPECT_TRUE(Comes([&] { return reply->gone() && handler.n_gone == 1; }));
}

TEST(HttpServer, ASilentStreamShowsThatItLives) {
  Handler handler;
  HttpServer server("127.0.0.1", 0, {.silence = milliseconds(30)}, handler);
  Client client(server.port());
  client.Send(Post("/later", ""));
  const auto reply = handler.Taken();
  reply->Begin({.content_type = "text/event-stream", .heartbeat = ":\n\n"});
  const std::string beats = client.Read("3\r\n:\n\n\r\n3\r\n:\n\n\r\n");
  EXPECT_THAT(beats, HasSubstr("3\r\n:\n\n\r\n3\r\n:\n\n\r\n"));
  reply->Write("data: 1\n\n");
  reply->End();
  const std::string rest = client.Read("0\r\n\r\n");
  EXPECT_THAT(rest, HasSubstr("data: 1\n\n"));
  // Behind its end comes nothing: the next answer is the next request's.
  std::this_thread::sleep_for(milliseconds(70));
  client.Send(Post("/echo", "next", kClose));
  EXPECT_THAT(client.Read(), StartsWith("HTTP/1.1 200 OK"));
  // A stream without a heartbeat, and a whole answer, have none.
  Client other(server.port());
  other.Send(Post("/later", "", kClose));
  const auto plain = handler.Taken();
  plain->Begin({.body = "a"});
  std::this_thread::sleep_for(milliseconds(70));
  plain->Write("b");
  plain->End();
  EXPECT_THAT(other.Read(), EndsWith("1\r\na\r\n1\r\nb\r\n0\r\n\r\n"));
}

TEST(HttpServer, DrainsWhatRuns) {
  Handler handler;
  HttpServer server("127.0.0.1", 0, {.drain_time = milliseconds(5000)}, handler);
  Client idle(server.port());
  idle.Send(Post("/echo", "idle"));
  idle.Read("POST idle");
  Client client(server.port());
  client.Send(Post("/later", ""));
  const auto reply = handler.Taken();
  std::thread drain([&] { EXPECT_TRUE(server.Drain()); });
  EXPECT_EQ(idle.Read(), "");  // closed
  reply->Send({.body = "the last"});
  EXPECT_THAT(client.Read(), EndsWith("the last"));
  client.Close();
  drain.join();
  boost::asio::io_context context;
  Tcp::socket late(context);
  boost::system::error_code refused;
  late.connect({boost::asio::ip::make_address("127.0.0.1"), server.port()}, refused);
  EXPECT_TRUE(refused);
}

}  // namespace
}  // namespace thermocline
