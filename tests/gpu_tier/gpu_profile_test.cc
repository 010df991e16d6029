// The profile of passes with a GPU as the fast tier: what it notes of which layer, what crossed the
// bus, that it changes nothing, and the file made of it.
#include <gmock/gmock.h>

#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "tests/gpu_tier/gpu_tier_fixture.h"
#include "tools/reports/pass_report.h"
#include "tools/reports/trace_file.h"

namespace thermocline {
namespace {

constexpr int kThreads = 2;
constexpr int64_t kManySpans = 1'000'000;
// Counts of neurons, each an int32: active, listed, wanted, hits, missed.
constexpr int64_t kCountsPerLayer = 5;

class GpuProfile : public GpuTier {
 protected:
  static GpuRun Half() {
    return {.model = Golden("gqa_relu"), .hot_share = 0.5, .n_threads = kThreads};
  }
  static void FeedTokens(Engine& engine, size_t n) {
    std::vector<int32_t> ids(n, 7);
    engine.Feed(ids);
  }
  // Returns the traffic of one pass of n tokens.
  static BusTraffic TrafficOf(Engine& engine, size_t n) {
    PassProfile profile(kThreads);
    engine.executor().set_profile(&profile);
    FeedTokens(engine, n);
    engine.executor().set_profile(nullptr);
    EXPECT_EQ(profile.tokens(), static_cast<int64_t>(n));
    return profile.traffic();
  }
};

// Returns what a pass marks, in its order, where every layer has a hot and a cold part.
std::vector<std::pair<PassPart, int32_t>> ExpectedMarks(int64_t n_layers) {
  std::vector<std::pair<PassPart, int32_t>> marks = {{PassPart::kEmbed, PassSpan::kNoLayer}};
  for (int32_t layer = 0; layer < n_layers; ++layer) {
    for (const PassPart part :
         {PassPart::kQkv, PassPart::kRope, PassPart::kAttention, PassPart::kOutput, PassPart::kNorm,
          PassPart::kSend, PassPart::kGate, PassPart::kDown, PassPart::kAwait, PassPart::kMerge}) {
      marks.emplace_back(part, layer);
    }
  }
  marks.emplace_back(PassPart::kHead, PassSpan::kNoLayer);
  return marks;
}

// There is a batch, which is not captured, a pass that is captured, and two replays of another.
TEST_F(GpuProfile, EveryPartOfEveryLayerIsNotedInItsOrder) {
  const auto engine = Open(Half());
  PassProfile profile(kThreads, kManySpans);
  engine->executor().set_profile(&profile);
  const std::vector<size_t> passes = {19, 5, 1, 1, 1};
  for (const size_t n : passes) FeedTokens(*engine, n);
  engine->executor().set_profile(nullptr);

  const auto marks = ExpectedMarks(engine->config().n_layers);
  const std::vector<PassSpan>& spans = profile.gpu_spans();
  ASSERT_EQ(spans.size(), marks.size() * passes.size());
  for (size_t i = 0; i < spans.size(); ++i) {
    const auto& [part, layer] = marks[i % marks.size()];
    EXPECT_EQ(spans[i].part, part) << i;
    EXPECT_EQ(spans[i].layer, layer) << i;
    EXPECT_LE(spans[i].begin_ns, spans[i].end_ns) << i;
    if (i == 0) continue;
    const int64_t gap_ns = spans[i].begin_ns - spans[i - 1].end_ns;
    if (i % marks.size() == 0) {
      EXPECT_GE(gap_ns, 0) << i;  // between passes
    } else {
      EXPECT_EQ(gap_ns, 0) << i;
    }
  }
  EXPECT_EQ(profile.passes(), 5);
  EXPECT_EQ(profile.tokens(), 27);
  ASSERT_EQ(profile.kept_passes().size(), 5U);
  EXPECT_EQ(profile.kept_passes()[0].n_tokens, 19);
}

// The threads' spans fill each pass without a hole, and all of them take part in every layer.
TEST_F(GpuProfile, ThreadsAreAccountedForFromTheFirstLayerToTheLast) {
  const auto engine = Open(Half());
  PassProfile profile(kThreads, kManySpans);
  engine->executor().set_profile(&profile);
  for (const size_t n : {1, 18, 1}) FeedTokens(*engine, n);
  engine->executor().set_profile(nullptr);
  for (int thread = 0; thread < kThreads; ++thread) {
    const auto& spans = profile.thread_spans(thread);
    size_t at = 0;
    for (const PassProfile::Pass& pass : profile.kept_passes()) {
      std::set<int32_t> layers;
      int64_t end_ns = pass.begin_ns;
      do {
        ASSERT_LT(at, spans.size());
        EXPECT_EQ(spans[at].begin_ns, end_ns);
        end_ns = spans[at].end_ns;
        if (spans[at].part == PassPart::kAwait) layers.insert(spans[at].layer);
      } while (spans[at++].part != PassPart::kFinish);
      EXPECT_EQ(end_ns, pass.end_ns);
      EXPECT_EQ(static_cast<int64_t>(layers.size()), engine->config().n_layers);
    }
    EXPECT_EQ(at, spans.size());
  }
}

TEST_F(GpuProfile, IdleSharesAreShares) {
  for (const double split : {0.0, 0.5, 1.0}) {
    GpuRun run = Half();
    run.hot_share = split;
    const auto engine = Open(run);
    PassProfile profile(kThreads);
    engine->executor().set_profile(&profile);
    for (int i = 0; i < 3; ++i) FeedTokens(*engine, 1);
    engine->executor().set_profile(nullptr);
    EXPECT_TRUE(profile.has_gpu());
    EXPECT_GE(profile.gpu_idle_share(), 0) << split;
    EXPECT_LT(profile.gpu_idle_share(), 1) << split;
    EXPECT_GT(profile.cpu_idle_share(), 0) << split;
    EXPECT_LT(profile.cpu_idle_share(), 1) << split;
    if (split == 1) {
      EXPECT_EQ(profile.gpu_times()[static_cast<size_t>(PassPart::kAwait)], 0);
    }
    EXPECT_TRUE(profile.gpu_spans().empty()) << "none were to be kept";
  }
}

// Every byte is counted by hand, of a pass that is captured (1, 5), one that is replayed (1) and a
// batch.
TEST_F(GpuProfile, BytesOverTheBusAreThoseOfTheShapes) {
  const auto engine = Open(Half());
  const ModelConfig& config = engine->config();
  const TensorView& table = engine->weights().token_embd;
  bool first = true;  // the page table is sent once, as long as the context stays in one page
  for (const size_t n : {1, 1, 5, 19}) {
    SCOPED_TRACE(n);
    const BusTraffic traffic = TrafficOf(*engine, n);
    const bool batch = n > static_cast<size_t>(kMaxKeptTokens);
    const auto tokens = static_cast<uint64_t>(n);
    const uint64_t rows = tokens * static_cast<uint64_t>(config.d_model) * 4;
    // A row is 16 bytes and a segment 44; a pass that may be kept has room for 16 of each.
    const uint64_t inputs = batch ? 19 * 16 + 44 : 16 * (16 + 44);
    EXPECT_EQ(traffic.of(BusLoad::kInputs), inputs + (first ? sizeof(int32_t) : 0));
    first = false;
    EXPECT_EQ(traffic.of(BusLoad::kEmbedding),
              tokens * static_cast<uint64_t>(table.row_stride_bytes));
    EXPECT_EQ(traffic.of(BusLoad::kColdX), rows * static_cast<uint64_t>(config.n_layers));
    EXPECT_EQ(traffic.of(BusLoad::kColdY), rows * static_cast<uint64_t>(config.n_layers));
    EXPECT_EQ(traffic.of(BusLoad::kCounts),
              static_cast<uint64_t>(config.n_layers * kCountsPerLayer) * 4);
    EXPECT_EQ(traffic.of(BusLoad::kResults), static_cast<uint64_t>(config.vocab_size) * 4);
    EXPECT_EQ(traffic.Sum(true) + traffic.Sum(false),
              std::accumulate(traffic.bytes.begin(), traffic.bytes.end(), uint64_t{0}));
  }
  GpuRun all = Half();
  all.hot_share = 1;
  const auto hot = Open(all);
  const BusTraffic traffic = TrafficOf(*hot, 1);
  EXPECT_EQ(traffic.of(BusLoad::kColdX) + traffic.of(BusLoad::kColdY), 0U);
}

TEST_F(GpuProfile, AProfileChangesNoBit) {
  const auto expected = Logits(Half());
  const auto engine = Open(Half());
  PassProfile profile(kThreads, kManySpans);
  engine->executor().set_profile(&profile);
  EXPECT_EQ(Logits(*engine), expected);
  engine->executor().set_profile(nullptr);
  engine->Reset();
  const int64_t n_passes = profile.passes();
  EXPECT_EQ(Logits(*engine), expected);
  EXPECT_EQ(profile.passes(), n_passes) << "it goes on after its end";
}

// What `bench` prints with a GPU is consistent: parts, shares and bytes belong together.
TEST_F(GpuProfile, TheReportAddsUp) {
  const auto engine = Open(Half());
  ComparisonOptions comparison;
  comparison.decode_tokens = 3;
  const std::vector<std::vector<int32_t>> prompts = {{5, 6, 7}, {8, 9}};
  const PassReport report =
      MeasurePasses(*engine, SparseMode::kExact, prompts, comparison, /*keep_spans=*/0);
  const auto json = PassJson(report);
  EXPECT_EQ(json["mode"], "exact");
  EXPECT_EQ(json["tokens"], 6);
  EXPECT_EQ(json["cpu"]["threads"], kThreads);
  std::set<std::string> parts;
  for (const char* side : {"gpu", "cpu"}) {
    double ms = 0;
    for (const auto& part : json[side]["parts"]) {
      ms += part["ms_per_token"].get<double>();
      parts.insert(side + (": " + part["part"].get<std::string>()));
    }
    EXPECT_NEAR(json[side]["ms_per_token"].get<double>(), ms, 1e-9 * ms);
    EXPECT_GE(json[side]["idle_share"].get<double>(), 0);
    EXPECT_LE(json[side]["idle_share"].get<double>(), 1);
  }
  EXPECT_THAT(parts, testing::IsSupersetOf({"gpu: attention", "gpu: gate", "gpu: between tokens",
                                            "cpu: wait for other tier", "cpu: wait for end"}));
  double to_gpu = 0;
  double to_host = 0;
  for (const auto& load : json["bus"]["loads"]) {
    (load["to_gpu"].get<bool>() ? to_gpu : to_host) += load["bytes_per_token"].get<double>();
  }
  EXPECT_EQ(json["bus"]["to_gpu_bytes_per_token"].get<double>(), to_gpu);
  EXPECT_EQ(json["bus"]["to_host_bytes_per_token"].get<double>(), to_host);
  const ModelConfig& config = engine->config();
  EXPECT_EQ(to_host,
            4 * (config.n_layers * (config.d_model + kCountsPerLayer) + config.vocab_size));
  EXPECT_THAT(PassTable(report), testing::AllOf(testing::HasSubstr("mean of 6 tokens"),
                                                testing::HasSubstr("y of cold neurons"),
                                                testing::HasSubstr("wait for other tier")));
}

TEST_F(GpuProfile, ATraceHasARowForTheGpuAndEveryThread) {
  const auto engine = Open(Half());
  PassProfile profile(kThreads, kManySpans);
  engine->executor().set_profile(&profile);
  FeedTokens(*engine, 3);
  FeedTokens(*engine, 1);
  engine->executor().set_profile(nullptr);
  const std::string path = dir_.file("trace.json");
  {
    TraceFile file(path);
    EXPECT_THAT(file.Write({{"a test", &profile}}), testing::HasSubstr("2 passes\n"));
  }
  const auto events = nlohmann::json::parse(ReadWholeFile(path));
  std::map<int, std::string> rows;
  std::map<std::string, std::set<int>> layers;  // layers by row of the timeline
  std::map<std::string, size_t> spans;
  for (const auto& event : events) {
    if (event["name"] == "thread_name") rows[event["tid"]] = event["args"]["name"];
  }
  for (const auto& event : events) {
    if (event["ph"] != "X") continue;
    EXPECT_GE(event["ts"].get<double>(), 0);
    EXPECT_GE(event["dur"].get<double>(), 0);
    const std::string row = rows.at(event["tid"]);
    ++spans[row];
    if (event["args"].contains("layer")) layers[row].insert(event["args"]["layer"].get<int>());
  }
  EXPECT_EQ(rows.size(), 2U + kThreads);
  EXPECT_EQ(spans["passes"], 2U);
  EXPECT_EQ(spans["GPU"], profile.gpu_spans().size());
  EXPECT_EQ(spans["CPU thread 1"], profile.thread_spans(1).size());
  for (const char* row : {"GPU", "CPU thread 0", "CPU thread 1"}) {
    EXPECT_EQ(static_cast<int64_t>(layers[row].size()), engine->config().n_layers) << row;
    EXPECT_EQ(*layers[row].rbegin(), engine->config().n_layers - 1) << row;
  }
}

}  // namespace
}  // namespace thermocline
