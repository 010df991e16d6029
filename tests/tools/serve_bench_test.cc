// bench serve: what a load is, what is measured of it, and that it is served.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "runtime/core/error.h"
#include "tests/support/message_of.h"
#include "tools/bench/serve_replay.h"
#include "tools/reports/serve_report.h"

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
  EXPECT_GE(result.stats.cached_tokens, 64 * 4);  // all but the first three
  EXPECT_EQ(result.stats.prompt_tokens + result.stats.cached_tokens, 7 * 80);
  EXPECT_THAT(ServeTable(report), HasSubstr("7 requests"));
  EXPECT_THAT(ServeJson(report), HasSubstr("\"served\": 7"));
  EXPECT_THAT(ServePage(report).Text(), HasSubstr("<svg"));
}

}  // namespace
}  // namespace thermocline
