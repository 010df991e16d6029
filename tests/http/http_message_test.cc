// What targets and heads mean, without a connection.
#include "tools/http/http_message.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tools/http/http_head.h"

namespace thermocline {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::Pair;

TEST(HttpTarget, IsAPathAndAQuery) {
  HttpRequest request;
  ASSERT_TRUE(ParseTarget("/slots/0?action=save&name=a%20b+c&flag&=lost&action=restore", &request));
  EXPECT_EQ(request.path, "/slots/0");
  EXPECT_THAT(request.query,
              ElementsAre(Pair("action", "restore"), Pair("flag", ""), Pair("name", "a b c")));
  request = {};
  ASSERT_TRUE(ParseTarget("/a+b%2Fc%3f#part?x=1", &request));
  EXPECT_EQ(request.path, "/a+b/c?");
  EXPECT_THAT(request.query, IsEmpty());
}

TEST(HttpTarget, ThatIsNotWellFormedIsRefused) {
  const std::string with_nul("/a\0b", 4);
  for (const std::string& target :
       {std::string(), std::string("models"), std::string("http://host/"), std::string("/%"),
        std::string("/%4"), std::string("/%g1"), std::string("/%00"), std::string("/?a=%0"),
        std::string("/?%zz=1"), std::string("*"), with_nul}) {
    HttpRequest request;
    EXPECT_FALSE(ParseTarget(target, &request)) << target;
  }
}

TEST(HttpHead, SaysHowTheBodyEnds) {
  const HttpResponse response{.status = 404, .headers = {{"X-A", "b"}}, .body = "12345"};
  EXPECT_THAT(HeadText(response, BodyLength::kKnown, true),
              ::testing::AllOf(HasSubstr("HTTP/1.1 404 Not Found\r\n"), HasSubstr("X-A: b\r\n"),
                               HasSubstr("Content-Length: 5\r\n"),
                               HasSubstr("Connection: keep-alive\r\n\r\n")));
  EXPECT_THAT(
      HeadText(response, BodyLength::kChunked, false),
      ::testing::AllOf(HasSubstr("Transfer-Encoding: chunked\r\n"),
                       Not(HasSubstr("Content-Length")), HasSubstr("Connection: close\r\n\r\n")));
  EXPECT_THAT(HeadText(response, BodyLength::kUntilClosed, false),
              Not(::testing::AnyOf(HasSubstr("chunked"), HasSubstr("Content-Length"))));
}

// Nothing that an answer repeats can begin another header.
TEST(HttpHead, HasNoLineEndsFromValues) {
  const HttpResponse response{.content_type = "text/plain\r\nX-B: 1",
                              .headers = {{"X-A\n", "b\r\nSet-Cookie: c"}}};
  const std::string head = HeadText(response, BodyLength::kKnown, false);
  EXPECT_THAT(head, HasSubstr("X-A: bSet-Cookie: c\r\n"));
  EXPECT_THAT(head, Not(HasSubstr("\nSet-Cookie")));
  EXPECT_THAT(head, Not(HasSubstr("\nX-B")));
}

TEST(HttpHead, IsTakenWithinItsLimits) {
  const auto status_of = [](const std::string& text, const HttpLimits& limits) {
    HttpParser parser;
    parser.header_limit(static_cast<uint32_t>(limits.head_bytes));
    boost::beast::error_code error;
    parser.put(boost::asio::buffer(text), error);
    if (error) return RefusalOf(error, true).value_or(HttpRefusal{}).status;
    HttpRequest request;
    const auto refused = TakeHead(parser, limits, &request);
    return refused ? refused->status : 200;
  };
  HttpLimits limits{.head_bytes = 4096, .n_headers = 3, .target_bytes = 20};
  EXPECT_EQ(status_of("GET /a HTTP/1.1\r\nA: 1\r\nB: 2\r\nC: 3\r\n\r\n", limits), 200);
  EXPECT_EQ(status_of("GET /a HTTP/1.1\r\nA: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\n\r\n", limits), 431);
  EXPECT_EQ(status_of("GET /" + std::string(20, 'a') + " HTTP/1.1\r\n\r\n", limits), 414);
  EXPECT_EQ(status_of("GET /% HTTP/1.1\r\n\r\n", limits), 400);
  EXPECT_EQ(status_of("GET /a HTTP/1.1\r\nA: " + std::string(5000, 'a') + "\r\n\r\n", limits), 431);
  EXPECT_EQ(status_of("nonsense\r\n\r\n", limits), 400);
  EXPECT_EQ(status_of("POST /a HTTP/1.1\r\nContent-Length: -1\r\n\r\n", limits), 400);
}

}  // namespace
}  // namespace thermocline
