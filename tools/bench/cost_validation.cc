#include "tools/bench/cost_validation.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>

#include "profiler/placement/cost_model.h"
#include "profiler/placement/place.h"
#include "profiler/synthetic/synth_predictor.h"
#include "profiler/synthetic/synth_profile.h"
#include "profiler/synthetic/synth_tokens.h"
#include "runtime/core/aligned_buffer.h"
#include "runtime/core/interrupt.h"
#include "runtime/engine/engine.h"
#include "runtime/placement/predictor_file.h"
#include "runtime/rates/measure_rates.h"
#include "runtime/rates/read_bandwidth.h"
#include "runtime/synth/synth.h"
#include "runtime/threads/processors.h"

namespace thermocline {
namespace {

constexpr int64_t kPromptTokens = 16;
constexpr int64_t kDecodeTokens = 20;  // of a round
constexpr int kPrompts = 4;
// Every way is run so many times, some seconds apart and among the others: what others do to the
// memory lasts longer than a run.
constexpr int kRounds = 3;
constexpr int64_t kContext = 512;
constexpr int64_t kPredictorTokens = 256;
constexpr double kOneTier = -1;

// A way to run a model.
struct Way {
  SparseMode mode = SparseMode::kDense;
  double hot_share = kOneTier;
  bool one_thread = false;
  int64_t rows = 1;
  bool prompt = false;
};

struct ValidatedModel {
  int64_t n_layers;
  int64_t d_model;
  int64_t d_ff;
  DType dtype;
  int64_t gate_rank;  // 0: without a predictor
  std::vector<Way> ways;
};

std::vector<ValidatedModel> Models() {
  constexpr auto kDense = SparseMode::kDense;
  constexpr auto kExact = SparseMode::kExact;
  constexpr auto kPredicted = SparseMode::kPredicted;
  return {{8,
           2048,
           8192,
           DType::kQ8_0,
           128,
           {{kDense},
            {kDense, 0.25},
            {kDense, kOneTier, true},
            {kExact},
            {kExact, 0.5},
            {kExact, 0.25, true},
            {kExact, kOneTier, false, 2},
            {kDense, kOneTier, false, 8},
            {kDense, kOneTier, false, 128, true},
            {kPredicted},
            {kPredicted, 0.25}}},
          {4,
           4096,
           11008,
           DType::kQ4_0,
           0,
           {{kDense},
            {kDense, 0.5},
            {kExact},
            {kExact, 0.5},
            {kExact, kOneTier, true},
            {kDense, kOneTier, false, 4},
            {kDense, kOneTier, false, 64, true}}},
          {6,
           2048,
           5632,
           DType::kF16,
           0,
           {{kDense}, {kExact}, {kExact, 0.25}, {kDense, kOneTier, false, 128, true}}}};
}

double Percentile(const std::vector<double>& ascending, double share) {
  return ascending[static_cast<size_t>(share * static_cast<double>(ascending.size() - 1))];
}

// Seconds of `step`, some times over, ascending.
std::vector<double> TimesOf(int64_t n, const std::function<void()>& step) {
  std::vector<double> seconds;
  for (int64_t i = 0; i < n; ++i) {
    ThrowIfInterrupted();
    const auto start = std::chrono::steady_clock::now();
    step();
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
    seconds.push_back(time.count());
  }
  std::ranges::sort(seconds);
  return seconds;
}

std::vector<double> PromptTimes(Engine& engine, int64_t rows, RandomTokens& tokens) {
  engine.Feed(tokens.Next(rows));
  return TimesOf(kPrompts, [&] {
    engine.Reset();
    engine.Feed(tokens.Next(rows));
  });
}

std::vector<double> DecodeTimes(Engine& engine, int64_t rows, RandomTokens& tokens) {
  std::vector<int32_t> sequences = {engine.main_sequence()};
  while (static_cast<int64_t>(sequences.size()) < rows)
    sequences.push_back(engine.sequences().Add());
  for (const int32_t sequence : sequences) {
    const std::vector<int32_t> ids = tokens.Next(kPromptTokens);
    const SequenceInput input{sequence, ids};
    engine.FeedSequences({&input, 1});
  }
  return TimesOf(kDecodeTokens, [&] {
    const std::vector<int32_t> ids = tokens.Next(rows);
    std::vector<SequenceInput> inputs;
    for (size_t i = 0; i < sequences.size(); ++i) inputs.push_back({sequences[i], {&ids[i], 1}});
    engine.FeedSequences(inputs);
  });
}

// The files of one model, while it is validated.
class ModelFiles {
 public:
  ModelFiles(const ValidatedModel& model, const ValidationOptions& options)
      : folder_(options.folder + "/thermocline-validation"), progress_(options.progress) {
    std::filesystem::create_directories(folder_);
    synth_.n_layers = model.n_layers;
    synth_.d_model = model.d_model;
    synth_.d_ff = model.d_ff;
    synth_.n_heads = synth_.n_kv_heads = model.d_model / 128;
    synth_.vocab_size = 8192;
    synth_.max_seq_len = kContext;
    synth_.dtype = model.dtype;
    synth_.activation = Activation::kRelu;
    synth_.activity = ActivityTarget{};
    synth_.gate_rank = model.gate_rank;
    synth_.n_threads = options.n_threads;
    synth_.progress = progress_;
    WriteSynthModel(model_path(), synth_);
    if (model.gate_rank == 0) return;
    WritePredictor(predictor_path(), BuildSynthPredictor(model_path(), synth_,
                                                         {.n_tokens = kPredictorTokens,
                                                          .n_threads = options.n_threads}));
  }
  ~ModelFiles() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  ModelFiles(const ModelFiles&) = delete;
  ModelFiles& operator=(const ModelFiles&) = delete;

  std::string model_path() const { return folder_ + "/model.gguf"; }
  std::string predictor_path() const { return folder_ + "/model.predictor.gguf"; }
  std::string placement_path(size_t way) const {
    return fmt::format("{}/model-{}.placement.gguf", folder_, way);
  }
  const SynthOptions& synth() const { return synth_; }

  EngineOptions OptionsOf(const Way& way, int n_threads) const {
    EngineOptions options;
    options.model_path = model_path();
    options.sparse = SparseModeName(way.mode);
    if (way.mode == SparseMode::kPredicted) options.predictor = predictor_path();
    options.n_threads = way.one_thread ? 1 : n_threads;
    options.context_tokens = kContext;
    options.n_sequences = way.prompt ? 1 : way.rows;
    options.batch_tokens = std::max(way.rows, kPromptTokens);
    options.fast_tier = FastTier::kCpu;
    options.progress = progress_;
    return options;
  }

 private:
  std::string folder_;
  ProgressFn progress_;
  SynthOptions synth_;
};

// Plain reads now, over what they gave when the rates were measured.
class MemoryMeter {
 public:
  explicit MemoryMeter(const HostRates& host)
      : host_(host), buffer_(kReadBytes, "measuring the memory") {
    std::memset(buffer_.data(), 1, buffer_.size());  // untouched pages would all be one of zeros
  }

  // (n_counts)
  std::vector<double> Shares() {
    std::vector<double> shares;
    for (size_t i = 0; i < host_.thread_counts.size(); ++i) {
      const int n_threads = static_cast<int>(host_.thread_counts[i]);
      const PinnedTeam pinned(n_threads);
      std::vector<double> rates;
      for (uint64_t at = 0; at < buffer_.size(); at += kSegmentBytes) {
        rates.push_back(TimeStreamingRead(n_threads, buffer_.bytes() + at, kSegmentBytes));
      }
      std::ranges::sort(rates);
      shares.push_back(Percentile(rates, 0.5) / host_.read_bytes_per_s[i]);
    }
    return shares;
  }
  double At(const std::vector<double>& shares, int n_threads) const {
    std::vector<double> counts(host_.thread_counts.begin(), host_.thread_counts.end());
    return ValueAt(counts, shares, n_threads);
  }

 private:
  static constexpr uint64_t kSegmentBytes = uint64_t{32} << 20;
  static constexpr uint64_t kReadBytes = 8 * kSegmentBytes;

  const HostRates& host_;
  AlignedBuffer buffer_;
};

// A way to run a model, and what its runs took.
class WayRuns {
 public:
  // number: of the way among the model's.
  WayRuns(const ModelFiles& files, const Way& way, size_t number, int n_threads)
      : way_(way), options_(files.OptionsOf(way, n_threads)) {
    const OpenedModel model(options_);
    stats_ = WantedStats(model, files.synth());
    placement_ = PlaceFraction(model, stats_, std::max(way.hot_share, 0.0), UINT64_MAX).placement;
    if (!placed()) return;
    options_.placement_path = files.placement_path(number);
    WritePlacement(options_.placement_path, placement_);
  }

  void Run(const MachineRates& rates, MemoryMeter& memory) {
    Engine engine(options_);
    RandomTokens tokens(1, engine.config().vocab_size);
    std::vector<double> shares = memory.Shares();
    const std::vector<double> seconds = way_.prompt ? PromptTimes(engine, way_.rows, tokens)
                                                    : DecodeTimes(engine, way_.rows, tokens);
    const std::vector<double> behind = memory.Shares();
    for (size_t i = 0; i < shares.size(); ++i) shares[i] = (shares[i] + behind[i]) / 2;
    const double by_round = 1.0 / kRounds;
    predicted_s_ += by_round * Predict(engine, rates);
    predicted_then_s_ += by_round * Predict(engine, rates.WithMemoryAt(shares));
    memory_share_ += by_round * memory.At(shares, options_.n_threads);
    measured_s_ += by_round * Percentile(seconds, 0.5);
    spread_ += by_round * Percentile(seconds, 0.9) / Percentile(seconds, 0.1);
  }

  // REQUIRES: was run in every round.
  ValidationRow Row() const {
    const double ms = 1e3 / static_cast<double>(way_.rows);
    ValidationRow row{.n_threads = options_.n_threads,
                      .mode = way_.mode,
                      .rows = way_.rows,
                      .prompt = way_.prompt};
    row.hot_share = way_.hot_share;
    row.predicted_ms = ms * predicted_s_;
    row.measured_ms = ms * measured_s_;
    row.spread = spread_;
    row.memory_share = memory_share_;
    row.predicted_then_ms = ms * predicted_then_s_;
    return row;
  }

 private:
  bool placed() const { return way_.hot_share >= 0; }

  double Predict(const Engine& engine, const MachineRates& rates) const {
    std::vector<std::vector<int32_t>> orders;
    std::vector<int64_t> n_hot;
    for (const LayerPlacement& layer : placement_.layers) {
      orders.push_back(layer.neuron_order);
      n_hot.push_back(placed() ? layer.n_on[kVram] : engine.config().d_ff);
    }
    const PassShape shape{.rows = way_.rows,
                          .prompt = way_.prompt,
                          .context_tokens = way_.prompt ? 0 : kPromptTokens + kDecodeTokens / 2,
                          .mode = way_.mode,
                          .n_threads = options_.n_threads,
                          .placed = placed()};
    const CostModel costs(engine.model(), stats_, orders, rates, shape);
    return 1e-3 * costs.Pass(n_hot).total_ms();
  }

  Way way_;
  EngineOptions options_;
  ProfileStats stats_;
  Placement placement_;
  // Means over the rounds.
  double predicted_s_ = 0;
  double predicted_then_s_ = 0;
  double memory_share_ = 0;
  double measured_s_ = 0;
  double spread_ = 0;
};

}  // namespace

std::vector<ValidationRow> ValidateCosts(MachineRates rates, const ValidationOptions& options) {
  ValidationOptions settled = options;
  if (settled.n_threads == 0) settled.n_threads = DefaultThreadCount();
  std::vector<ValidationRow> rows;
  for (const ValidatedModel& model : Models()) {
    const ModelFiles files(model, settled);
    const OpenedModel opened(files.OptionsOf({}, settled.n_threads));
    AddMissingTypes(RateTypesOf(opened), /*quick=*/false, &rates);
    std::vector<WayRuns> ways;
    for (const Way& way : model.ways) {
      if (way.one_thread && settled.n_threads == 1) continue;  // the same once more
      ways.emplace_back(files, way, ways.size(), settled.n_threads);
    }
    MemoryMeter memory(rates.host);
    for (int round = 0; round < kRounds; ++round) {
      for (WayRuns& way : ways) way.Run(rates, memory);
    }
    for (const WayRuns& way : ways) {
      ValidationRow row = way.Row();
      row.shape = fmt::format("{} x {} x {}", model.n_layers, model.d_model, model.d_ff);
      row.dtype = model.dtype;
      rows.push_back(std::move(row));
    }
  }
  return rows;
}

}  // namespace thermocline
