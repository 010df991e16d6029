// bench serve: what a load is, what is measured of it, and that it is served.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "runtime/core/error.h"
#include "tests/support/message_of.h"
#include "tools/bench/serve_replay.h"
#include "tools/bench/serve_url.h"
#include "tools/reports/serve_report.h"
#include "tools/serve/service.h"

namespace thermocline {
namespace {

using ::testing::HasSubstr;

TEST(ServeTrace, ReadsAnObjectALine) {
  const std::string text =
      R"({"arrival_ms": 20, "prompt_tokens": 5, "max_tokens": 7}
)"
      "\n"
      R"({"prompt_tokens": 9, "arrival_ms": 0.5, "max_tokens": 1, "shared_tokens": 9, "group": "a"})";
  const std::vector<ServedRequest> trace = ParseServeTrace(text, "t.jsonl");
  ASSERT_EQ(trace.size(), 2U);
  EXPECT_EQ(trace[0].arrival_ms, 0.5);
  EXPECT_EQ(trace[0].shared_tokens, 9);
  EXPECT_EQ(trace[0].group, "a");
  EXPECT_EQ(trace[1].prompt_tokens, 5);
  EXPECT_EQ(trace[1].max_tokens, 7);
}

TEST(ServeTrace, SaysWhichLineIsWrong) {
  const auto error = [](const std::string& line) {
    return MessageOf([&] { ParseServeTrace("\n" + line, "t.jsonl"); });
  };
  EXPECT_THAT(error("{"), HasSubstr("t.jsonl: line 2: expected JSON"));
  EXPECT_THAT(error("[1]"), HasSubstr("expected an object, found array"));
  EXPECT_THAT(error("{}"), HasSubstr("arrival_ms: a number"));
  EXPECT_THAT(error(R"({"arrival_ms": 1, "prompt_tokens": 0, "max_tokens": 1})"),
              HasSubstr("prompt_tokens: a number from 1"));
  EXPECT_THAT(error(R"({"arrival_ms": 1, "prompt_tokens": 1.5, "max_tokens": 1})"),
              HasSubstr("a whole number"));
  EXPECT_THAT(
      error(R"({"arrival_ms": 1, "prompt_tokens": 4, "max_tokens": 1, "shared_tokens": 5})"),
      HasSubstr("shared_tokens"));
  EXPECT_THAT(error(R"({"arrival_ms": 1, "prompt_tokens": 4, "max_tokens": 1, "x": 5})"),
              HasSubstr("found x"));
  EXPECT_THAT(error(""), HasSubstr("no request"));
}

TEST(ServeTrace, IntervalsHaveTheRateThatIsAskedFor) {
  LoadShape shape;
  shape.n_requests = 4000;
  shape.requests_per_s = 5;
  const std::vector<ServedRequest> trace = MakeServeTrace(shape);
  EXPECT_EQ(trace[0].arrival_ms, 0);
  EXPECT_NEAR(trace.back().arrival_ms / 3999, 200, 15);  // the mean of 3999, within 5 deviations
  shape.requests_per_s = 0;
  EXPECT_EQ(MakeServeTrace(shape).back().arrival_ms, 0);
}

TEST(ServeTrace, PromptsOfAGroupBeginAlike) {
  std::vector<ServedRequest> trace(4, {.prompt_tokens = 20, .max_tokens = 1, .shared_tokens = 12});
  trace[1].shared_tokens = 5;
  trace[2].group = "other";
  trace[3].shared_tokens = 20;
  const auto prompts = MakeServePrompts(trace, 1000);
  const auto common = [&](size_t a, size_t b) {
    return std::ranges::mismatch(prompts[a], prompts[b]).in1 - prompts[a].begin();
  };
  for (const auto& prompt : prompts) EXPECT_EQ(prompt.size(), 20U);
  EXPECT_EQ(common(0, 1), 5);
  EXPECT_EQ(common(0, 3), 12);
  EXPECT_LT(common(0, 2), 5);
}

TEST(ServeReplay, PercentilesAreValuesThatWereMeasured) {
  std::vector<double> ms;
  for (int i = 100; i >= 1; --i) ms.push_back(i);
  const TimesMs times = PercentilesOf(ms);
  EXPECT_EQ(times.p50, 50);
  EXPECT_EQ(times.p90, 90);
  EXPECT_EQ(times.p99, 99);
  EXPECT_NEAR(times.mean, 50.5, 1e-9);
  EXPECT_EQ(PercentilesOf({}).n, 0);
  EXPECT_EQ(PercentilesOf({7}).p99, 7);
}

TEST(ServeReplay, ServesALoadAndCountsIt) {
  EngineOptions options;
  options.model_path = std::string(THERMOCLINE_SOURCE_DIR) + "/tests/golden/gqa_relu.gguf";
  options.n_threads = 1;
  options.n_sequences = 3;
  options.context_tokens = 128;
  Engine engine(options);
  const std::vector<ServedRequest> trace =
      MakeServeTrace({.n_requests = 7, .prompt_tokens = 80, .max_tokens = 9, .shared_tokens = 70});
  ServeReport report;
  report.bounds.ttft_ms = 1e-6;  // nobody is as fast
  report.result = ReplayServe(engine, {.n_slots = 3}, trace, report.bounds, {});
  const ServeResult& result = report.result;
  EXPECT_EQ(result.n_served, 7);
  EXPECT_EQ(result.n_well, 0);
  EXPECT_EQ(result.generated_tokens, 63);
  EXPECT_EQ(result.ttft.n, 7);
  EXPECT_EQ(result.gaps.n, 56);
  // All but the first; of pages the cache has whole ones, a slot has what it was left with.
  EXPECT_GE(result.stats->cached_tokens, 64 * 6);
  EXPECT_LE(result.stats->cached_tokens, 70 * 6);
  EXPECT_EQ(result.stats->prompt_tokens + result.stats->cached_tokens, 7 * 80);
  EXPECT_THAT(ServeTable(report), HasSubstr("7 requests"));
  EXPECT_THAT(ServeJson(report), HasSubstr("\"served\": 7"));
  EXPECT_THAT(ServePage(report).Text(), HasSubstr("<svg"));
}

TEST(ServeUrl, IsAHostAPortAndAPath) {
  const HttpUrl url = ParseUrl("http://name:81/a/b/");
  EXPECT_EQ(url.host, "name");
  EXPECT_EQ(url.port, 81);
  EXPECT_EQ(url.path, "/a/b");
  EXPECT_EQ(ParseUrl("http://10.0.0.1").port, 80);
  for (const char* bad : {"", "name:81", "https://a", "http://", "http://:1", "http://a:0",
                          "http://a:65536", "http://a:1x", "http://a b", "http://u@a"}) {
    EXPECT_THAT(MessageOf([&] { ParseUrl(bad); }), HasSubstr("expected http://HOST")) << bad;
  }
}

TEST(ServeUrl, EventsAreTakenApartWhereverTheyAreCut) {
  const std::string stream =
      ":\n\ndata: one\n\nevent: x\ndata: two\ndata:three\n\ndata: [DONE]\n\n";
  for (size_t cut = 0; cut <= stream.size(); ++cut) {
    EventReader reader;
    std::vector<std::string> events = reader.Push(stream.substr(0, cut));
    for (std::string& event : reader.Push(stream.substr(cut))) events.push_back(std::move(event));
    EXPECT_EQ(events, (std::vector<std::string>{"one", "two\nthree", "[DONE]"}));
  }
}

// A server in this process, asked over its socket.
TEST(ServeUrl, IsMeasuredAsAClientSeesIt) {
  ServeOptions options;
  options.engine.model_path =
      std::string(THERMOCLINE_SOURCE_DIR) + "/tools/demo.d/classics-9m-relu-q8_0.gguf";
  options.engine.n_threads = 1;
  options.engine.n_sequences = 2;
  options.engine.context_tokens = 128;
  options.schedule.n_slots = 2;
  options.api_keys = {"secret"};
  Service service(options);
  HttpServer server("127.0.0.1", 0, {}, service);
  service.Load();
  const HttpUrl url = ParseUrl("http://127.0.0.1:" + std::to_string(server.port()));
  EXPECT_THAT(MessageOf([&] { AskForModel(url, "wrong"); }), HasSubstr("status 401"));
  const UrlModel model = AskForModel(url, "secret");
  EXPECT_EQ(model.name, "classics-9m-relu-q8_0.gguf");
  std::vector<ServedRequest> trace =
      MakeServeTrace({.n_requests = 3, .prompt_tokens = 20, .max_tokens = 6});
  trace.push_back({.arrival_ms = 1, .prompt_tokens = 500, .max_tokens = 6});  // is refused
  const ServeResult result = ReplayUrl(url, "secret", model, trace, {.ttft_ms = 1e9}, {});
  EXPECT_EQ(result.n_served, 3);
  EXPECT_EQ(result.n_well, 3);
  EXPECT_EQ(result.generated_tokens, 18);
  EXPECT_EQ(result.texts.back().reason, EndReason::kFailed);
  EXPECT_GT(result.ttft.p50, 0);
  EXPECT_FALSE(result.stats);
  ServeReport report;
  report.model = "m";
  report.url = "http://a";
  report.result = result;
  EXPECT_THAT(ServeTable(report), HasSubstr("m, at http://a: 4 requests"));
}

}  // namespace
}  // namespace thermocline
