#include "runtime/rates/measure_rates.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <ctime>
#include <functional>
#include <numeric>
#include <random>

#include "cpu_kernels/kernels.h"
#include "runtime/core/aligned_buffer.h"
#include "runtime/core/error.h"
#include "runtime/device/cpu/cpu_device.h"
#include "runtime/device/handover.h"
#include "runtime/device/kv_cache.h"
#include "runtime/device/kv_pages.h"
#include "runtime/rates/measure_gpu.h"
#include "runtime/rates/measure_storage.h"
#include "runtime/rates/timed_lanes.h"
#include "runtime/threads/processors.h"

namespace thermocline {
namespace {

constexpr int64_t kCols = 4096;
constexpr int64_t kUsualCols[] = {2048, 4096};
constexpr int64_t kDistinctRows = 8;  // random rows, which the memory repeats
constexpr uint64_t kMemoryBytes = uint64_t{256} << 20;
constexpr uint64_t kQuickBytes = uint64_t{128} << 20;
constexpr uint64_t kSampleBytes = uint64_t{24} << 20;  // read per repetition
constexpr int64_t kBatchWeights = int64_t{16} << 20;   // of a product with some rows
constexpr int64_t kPanelWeights = int64_t{8} << 20;    // and with many
constexpr int64_t kManyRows = 64;
constexpr int64_t kCachedBytes = 128 << 10;
constexpr int kCachedTimes = 64;
constexpr int kOpTimes = 256;
constexpr double kGatherSizes[] = {512, 2048, 8192};  // bytes of a row, about
constexpr double kDensities[] = {0.02, 0.05, 0.1, 0.25, 0.5, 1};
constexpr DType kGatherType = DType::kQ8_0;
constexpr float kH = 0.5F;
constexpr int64_t kMostPanelNeurons = 16384;
constexpr int64_t kAttendTokens = 1024;
constexpr int64_t kAttendLayers = 4;  // so that no cache holds them all
constexpr int64_t kAttendHeadDim = 128;
constexpr int64_t kAttendHeads = kCols / kAttendHeadDim;
// Everything is measured so many times, some seconds apart, beside plain reads: others who use the
// same memory slow it down for seconds, and rates of different moments would not go together.
constexpr int kRounds = 3;
constexpr int kTimesARound = 5;  // of a round

std::vector<float> RandomFloats(int64_t n) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(n));
  for (float& value : values) value = normal(random);
  return values;
}

// A large matrix whose rows repeat a few random ones, of which every repetition takes other rows.
class RateMemory {
 public:
  explicit RateMemory(uint64_t n_bytes) : buffer_(n_bytes, "measuring the machine") {}

  void Fill(DType dtype, int64_t cols) {
    dtype_ = dtype;
    cols_ = cols;
    row_bytes_ = RowBytes(dtype, cols);
    n_rows_ = static_cast<int64_t>(buffer_.size()) / row_bytes_;
    const std::vector<float> x = RandomFloats(cols * kDistinctRows);
    std::vector<std::byte> rows(static_cast<size_t>(kDistinctRows * row_bytes_), std::byte{0x3a});
    if (GetWeightTypeInfo(dtype).written) {
      for (int64_t r = 0; r < kDistinctRows; ++r) {
        QuantizeRow(dtype, x.data() + r * cols, cols, rows.data() + r * row_bytes_);
      }
    }
    for (int64_t r = 0; r < n_rows_; ++r) {
      std::memcpy(buffer_.bytes() + r * row_bytes_, rows.data() + r % kDistinctRows * row_bytes_,
                  static_cast<size_t>(row_bytes_));
    }
    next_ = 0;
  }
  // Other rows than the last ones.
  TensorView Next(int64_t n_rows) {
    CHECK(n_rows <= n_rows_);
    if (next_ + n_rows > n_rows_) next_ = 0;
    const TensorView view = DenseView(buffer_.bytes() + next_ * row_bytes_, dtype_, n_rows, cols_);
    next_ += n_rows;
    return view;
  }
  int64_t cols() const { return cols_; }
  int64_t n_rows() const { return n_rows_; }
  int64_t row_bytes() const { return row_bytes_; }
  const std::byte* data() { return buffer_.bytes(); }
  uint64_t size() const { return buffer_.size(); }

 private:
  AlignedBuffer buffer_;
  DType dtype_ = DType::kF32;
  int64_t cols_ = 0;
  int64_t row_bytes_ = 0;
  int64_t n_rows_ = 0;
  int64_t next_ = 0;
};

// Memory in pages of the smallest size, written once.
class SmallPages {
 public:
  explicit SmallPages(uint64_t n_bytes) : buffer_(n_bytes, "measuring the machine") {
    // It has none yet.
    (void)::madvise(buffer_.data(), n_bytes, MADV_NOHUGEPAGE);
    std::memset(buffer_.data(), 0x3a, n_bytes);
  }
  const std::byte* data() const { return static_cast<const std::byte*>(buffer_.data()); }
  uint64_t size() const { return buffer_.size(); }

 private:
  AlignedBuffer buffer_;
};

// Neurons of an FFN of about so many rows, gate, up and down. Panels go over all neurons of a down
// projection at once, of which a model has no more than this.
int64_t FfnNeurons(int64_t rows, int64_t n_rows) {
  const int64_t n = n_rows / 3 / kQuantBlock * kQuantBlock;
  return std::clamp<int64_t>(n, kQuantBlock, rows <= 2 ? n_rows : kMostPanelNeurons);
}

CpuDeviceLimits LimitsFor(int n_threads, int64_t cols) {
  return {.n_lanes = n_threads,
          .max_tokens = kRateRows[kRateRowCounts - 1],
          .d_model = cols,
          .max_d_in = std::max(cols, kMostPanelNeurons),
          .max_neurons = static_cast<int64_t>(kSampleBytes) / kQuantBlock,
          .max_seq_len = kQuantBlock,
          .n_heads = 1,
          .n_kv_heads = 1,
          .head_dim = kQuantBlock};
}

// The measurements with one number of threads.
class HostMeter {
 public:
  HostMeter(int n_threads, RateMemory& memory, NoiseMeter& noise)
      : memory_(memory),
        lanes_(n_threads, &noise),
        device_("cpu", LimitsFor(n_threads, memory.cols())),
        x_(RandomFloats(memory.cols() * kRateRows[kRateRowCounts - 1])),
        // Of a product: a float per row of weights and of the pass. Of sums: a row per thread.
        out_(std::max<uint64_t>(OutFloats(), static_cast<uint64_t>(n_threads * memory.cols())) *
                 sizeof(float),
             "measuring the machine") {}

  double ReadBytesPerSecond() { return ReadBytesPerSecond(memory_.data(), memory_.size()); }
  double ReadBytesPerSecond(const std::byte* memory, uint64_t n_bytes) {
    const auto* words = reinterpret_cast<const uint64_t*>(memory);
    constexpr int64_t kWords = kSampleBytes / sizeof(uint64_t);
    const auto n_segments = static_cast<int64_t>(n_bytes / kSampleBytes);
    int64_t segment = 0;
    std::vector<uint64_t> sums(static_cast<size_t>(lanes_.n_threads()));
    const double seconds = lanes_.TypicalSeconds(
        2 * kTimesARound, [&] { segment = (segment + 1) % n_segments; },
        [&](const Lane& lane) {
          const auto [begin, end] = lane.Split(kWords, 8);
          // Kept, so that no read can be left out.
          sums[static_cast<size_t>(lane.rank)] +=
              CpuKernels().sum_words(words + segment * kWords + begin, end - begin);
        });
    return static_cast<double>(kSampleBytes) / seconds;
  }

  // Of memory in small pages.
  double MappedBytesPerSecond(const SmallPages& pages) {
    return ReadBytesPerSecond(pages.data(), pages.size());
  }

  // Of the type that the memory was filled with.
  void AddTypeRates(TypeRates* type) {
    for (const int64_t rows : kRateRows) type->linear_weights_per_s.push_back(LinearRate(rows));
    for (const int64_t rows : kRateRows) type->ffn_weights_per_s.push_back(FfnRate(rows));
    type->cached_weights_per_s.push_back(CachedRate(type->key.dtype));
    type->sum_weights_per_s.push_back(SumRate());
  }

  double OpUs() {
    const TensorView w = memory_.Next(kQuantBlock);
    const LinearWeights weights{w, nullptr};
    const LinearOp ops[] = {{&weights, out_.as<float>()}};
    const double seconds = lanes_.TypicalSeconds(
        kTimesARound, [] {},
        [&](const Lane& lane) {
          for (int i = 0; i < kOpTimes; ++i) {
            device_.Linear(lane, ops, x_.data(), 1);
            lane.Sync();
          }
        });
    return 1e6 * seconds / kOpTimes;
  }

  double WakeUs() { return 1e6 * lanes_.EmptyRunSeconds(kOpTimes); }

  // What a hand-over adds to the addition of the two results, which is there without one.
  double HandoverUs(double op_us) {
    std::vector<float> x(kCols);
    std::vector<float> slow_x(kCols);
    std::vector<float> slow_y(kCols);
    HostHandover handover(lanes_.team(), slow_x.data(), nullptr, slow_y.data(), kCols);
    const double seconds = lanes_.TypicalSeconds(
        kTimesARound, [&] { handover.BeginPass(); },
        [&](const Lane& lane) {
          for (uint32_t i = 0; i < kOpTimes; ++i) {
            if (lane.rank == 0) handover.SendInput(x.data(), nullptr, 1);
            if (lane.rank == lane.size - 1) {
              handover.AwaitInput(lane, i);
              handover.SendOutput(i);
            }
            handover.Merge(lane, device_, 0, i, x.data(), nullptr, 1);
          }
        });
    return std::max(0.01, 1e6 * seconds / kOpTimes - op_us);
  }

  double AttendBytesPerSecond() {
    ModelConfig config;
    config.n_layers = kAttendLayers;
    config.d_model = kCols;
    config.n_heads = config.n_kv_heads = kAttendHeads;
    config.head_dim = kAttendHeadDim;
    config.MakeLayersEqual();
    const HostKvCache cache(config, DType::kF16, MakeKvLayout(config, KvPagesFor(kAttendTokens)));
    std::vector<int32_t> pages(static_cast<size_t>(KvPagesFor(kAttendTokens)));
    std::iota(pages.begin(), pages.end(), 0);
    Batch batch;
    batch.sequences.push_back({.tables = {{0, pages}}});
    batch.rows.push_back({0, 0, kAttendTokens - 1, false});
    const std::vector<BatchSegment> segments = batch.Segments();
    AttentionOp op{0, 0, &batch, segments, kAttendHeads, kAttendHeads, kAttendHeadDim, 0.1F};
    CpuDeviceLimits limits = LimitsFor(lanes_.n_threads(), kCols);
    limits.max_seq_len = kAttendTokens;
    limits.n_heads = limits.n_kv_heads = kAttendHeads;
    limits.head_dim = kAttendHeadDim;
    CpuDevice device("cpu", limits);
    const double seconds = lanes_.TypicalSeconds(
        2 * kTimesARound, [&] { op.layer = (op.layer + 1) % kAttendLayers; },
        [&](const Lane& lane) { device.Attend(lane, cache, op, x_.data(), out_.as<float>()); });
    return static_cast<double>(2 * kAttendTokens * kCols) * sizeof(uint16_t) / seconds;
  }

  // Rates of single rows over that of a plain walk, by density.
  void AddGather(HostRates* host) {
    const double linear = GatherRate(false, 1);
    const double sum = GatherRate(true, 1);
    for (const double density : kDensities) {
      host->linear_gather.push_back(density == 1 ? 1 : GatherRate(false, density) / linear);
      host->sum_gather.push_back(density == 1 ? 1 : GatherRate(true, density) / sum);
    }
  }

 private:
  uint64_t OutFloats() const {
    const int64_t most_rows = std::max<int64_t>(2 * SampleRows(), WindowRows(kDensities[0]));
    const int64_t batch = kBatchWeights / memory_.cols() * kManyRows;
    const int64_t panels = kPanelWeights / memory_.cols() * kRateRows[kRateRowCounts - 1];
    return static_cast<uint64_t>(std::max({most_rows, batch, panels}));
  }
  // Rows of a stretch of which a share makes a quarter of a sample.
  int64_t WindowRows(double density) const {
    const double n_bytes = static_cast<double>(kSampleBytes) / 4 / density;
    return std::min(memory_.n_rows(), static_cast<int64_t>(n_bytes) / memory_.row_bytes());
  }

  int64_t SampleRows() const { return static_cast<int64_t>(kSampleBytes) / memory_.row_bytes(); }

  double LinearRate(int64_t rows) {
    const int64_t n = TimedRows(rows);
    LinearWeights weights;
    const double seconds = lanes_.TypicalSeconds(
        TimesOf(rows), [&] { weights.w = memory_.Next(n); },
        [&](const Lane& lane) {
          const LinearOp ops[] = {{&weights, out_.as<float>()}};
          device_.Linear(lane, ops, x_.data(), rows);
        });
    return static_cast<double>(n * memory_.cols()) / seconds;
  }

  // Rows that a product with so many rows of a pass is timed on.
  int64_t TimedRows(int64_t rows) const {
    if (rows <= 2) return SampleRows();
    return (rows < kManyRows ? kBatchWeights : kPanelWeights) / memory_.cols();
  }
  static int TimesOf(int64_t rows) { return rows < kManyRows ? kTimesARound : 3; }

  double FfnRate(int64_t rows) {
    const int64_t m = FfnNeurons(rows, TimedRows(rows));
    const int64_t cols = memory_.cols();
    FfnSlice slice;
    slice.n_neurons = m;
    AlignedBuffer gate(static_cast<uint64_t>(rows * m) * sizeof(float), "FFN activations");
    AlignedBuffer up(static_cast<uint64_t>(rows * m) * sizeof(float), "FFN activations");
    AlignedBuffer y(static_cast<uint64_t>(rows * cols) * sizeof(float), "FFN outputs");
    FfnState state;
    state.gate = gate.as<float>();
    state.up = up.as<float>();
    state.y = y.as<float>();
    const FfnOp op{.slice = &slice, .activation = Activation::kRelu};
    const double seconds = lanes_.TypicalSeconds(
        TimesOf(rows),
        [&] {
          slice.gate = memory_.Next(m);
          slice.up = memory_.Next(m);
          slice.down = memory_.Next(m);
        },
        [&](const Lane& lane) { device_.Ffn(lane, op, x_.data(), rows, state); });
    return static_cast<double>(3 * m * cols) / seconds;
  }

  // Every thread goes over a few rows of its own again and again.
  double CachedRate(DType dtype) {
    const KernelTable& kernels = CpuKernels();
    const int64_t cols = memory_.cols();
    const int64_t n = std::max<int64_t>(1, kCachedBytes / memory_.row_bytes());
    const VectorForm form = kernels.vector_form(dtype);
    AlignedBuffer x(static_cast<uint64_t>(kernels.prepared_bytes(form, cols)), "an input");
    kernels.prepare(form, x_.data(), cols, x.data());
    const double seconds = lanes_.TypicalSeconds(
        kTimesARound, [] {},
        [&](const Lane& lane) {
          const std::byte* w = memory_.data() + lane.rank * n * memory_.row_bytes();
          for (int i = 0; i < kCachedTimes; ++i) {
            kernels.matvec(dtype, w, memory_.row_bytes(), cols, x.data(), nullptr, 0, n,
                           out_.as<float>() + lane.rank * n);
          }
        });
    return static_cast<double>(n * cols * kCachedTimes * lanes_.n_threads()) / seconds;
  }

  double SumRate() {
    const std::vector<float> h(static_cast<size_t>(SampleRows()), kH);
    TensorView w;
    const double seconds = lanes_.TypicalSeconds(
        kTimesARound, [&] { w = memory_.Next(SampleRows()); },
        [&](const Lane& lane) {
          const auto [begin, end] = lane.Split(w.rows);
          CpuKernels().accumulate_rows(w.dtype, w.row(begin), w.row_stride_bytes, h.data() + begin,
                                       nullptr, end - begin, 0, w.cols,
                                       out_.as<float>() + lane.rank * w.cols);
        });
    return static_cast<double>(w.rows * w.cols) / seconds;
  }

  // Bytes per second of a share of the rows of a stretch, picked at random.
  double GatherRate(bool sum, double density) {
    const auto window = std::min(
        memory_.n_rows(), static_cast<int64_t>(static_cast<double>(kSampleBytes) / 4 / density) /
                              memory_.row_bytes());
    std::mt19937 random(2);
    std::bernoulli_distribution active(density);
    std::vector<int32_t> rows;
    TensorView w;
    const std::vector<float> h(static_cast<size_t>(window), kH);
    const KernelTable& kernels = CpuKernels();
    const VectorForm form = kernels.vector_form(kGatherType);
    std::vector<double> rates;
    for (int i = 0; i < kTimesARound; ++i) {
      w = memory_.Next(window);
      rows.clear();
      for (int64_t r = 0; r < window; ++r) {
        if (density == 1 || active(random)) rows.push_back(static_cast<int32_t>(r));
      }
      AlignedBuffer x(static_cast<uint64_t>(kernels.prepared_bytes(form, w.cols)), "an input");
      const std::vector<float> input = RandomFloats(w.cols);
      kernels.prepare(form, input.data(), w.cols, x.data());
      const double seconds = lanes_.Seconds([&](const Lane& lane) {
        const auto [begin, end] = lane.Split(static_cast<int64_t>(rows.size()));
        if (sum) {
          kernels.accumulate_rows(w.dtype, w.data, w.row_stride_bytes, h.data(),
                                  rows.data() + begin, end - begin, 0, w.cols,
                                  out_.as<float>() + lane.rank * w.cols);
        } else {
          kernels.matvec(w.dtype, w.data, w.row_stride_bytes, w.cols, x.data(), rows.data(), begin,
                         end, out_.as<float>());
        }
      });
      rates.push_back(static_cast<double>(rows.size()) * static_cast<double>(memory_.row_bytes()) /
                      seconds);
    }
    std::ranges::sort(rates, std::greater<>());
    return rates[rates.size() / 4];
  }

  RateMemory& memory_;
  TimedLanes lanes_;
  CpuDevice device_;
  std::vector<float> x_;
  AlignedBuffer out_;
};

std::vector<int64_t> ThreadCounts(const MeasureOptions& options) {
  const int most = options.n_threads > 0 ? options.n_threads : DefaultThreadCount();
  std::vector<int64_t> counts = {1};
  for (int64_t n = 2; options.every_count && n < most; n *= 2) counts.push_back(n);
  if (most > 1) counts.push_back(most);
  return counts;
}

int64_t ColsForBytes(double row_bytes) {
  const double blocks = row_bytes / static_cast<double>(RowBytes(kGatherType, kQuantBlock));
  return std::max<int64_t>(1, static_cast<int64_t>(blocks)) * kQuantBlock;
}

// All measurements once.
struct Round {
  HostRates host;
  // (n_types) What plain reads gave beside each type, by thread count.
  std::vector<std::vector<double>> reads = {};
};

void MeasureTypes(const std::vector<RateKey>& types, RateMemory& memory, NoiseMeter& noise,
                  const std::function<void(const RateKey&)>& begins, Round* round) {
  for (const RateKey& key : types) {
    begins(key);
    TypeRates type{.key = key};
    std::vector<double> reads;
    memory.Fill(key.dtype, key.cols);
    for (const int64_t n : round->host.thread_counts) {
      HostMeter meter(static_cast<int>(n), memory, noise);
      const double before = meter.ReadBytesPerSecond();
      meter.AddTypeRates(&type);
      reads.push_back((before + meter.ReadBytesPerSecond()) / 2);
    }
    round->host.types.push_back(std::move(type));
    round->reads.push_back(std::move(reads));
  }
}

void MeasureGather(RateMemory& memory, NoiseMeter& noise, HostRates* host) {
  host->gather_density.assign(std::begin(kDensities), std::end(kDensities));
  for (const double row_bytes : kGatherSizes) {
    memory.Fill(kGatherType, ColsForBytes(row_bytes));
    host->gather_row_bytes.push_back(static_cast<double>(memory.row_bytes()));
    HostMeter(static_cast<int>(host->thread_counts.back()), memory, noise).AddGather(host);
  }
}

void MeasureMemoryAndThreads(RateMemory& memory, NoiseMeter& noise, HostRates* host) {
  memory.Fill(kGatherType, kCols);
  const SmallPages small_pages(memory.size());
  for (const int64_t n : host->thread_counts) {
    HostMeter meter(static_cast<int>(n), memory, noise);
    host->read_bytes_per_s.push_back(meter.ReadBytesPerSecond());
    host->mapped_bytes_per_s.push_back(meter.MappedBytesPerSecond(small_pages));
    host->op_us.push_back(meter.OpUs());
    host->wake_us.push_back(meter.WakeUs());
    host->attend_bytes_per_s.push_back(meter.AttendBytesPerSecond());
    host->handover_us.push_back(meter.HandoverUs(host->op_us.back()));
  }
}

using RatesOfHost = std::vector<double> HostRates::*;
using RatesOfType = std::vector<double> TypeRates::*;

constexpr RatesOfHost kOfHost[] = {
    &HostRates::read_bytes_per_s, &HostRates::mapped_bytes_per_s, &HostRates::op_us,
    &HostRates::wake_us,          &HostRates::handover_us,        &HostRates::attend_bytes_per_s,
    &HostRates::linear_gather,    &HostRates::sum_gather};
constexpr RatesOfType kOfType[] = {&TypeRates::linear_weights_per_s, &TypeRates::ffn_weights_per_s,
                                   &TypeRates::cached_weights_per_s, &TypeRates::sum_weights_per_s};

// Number by number the middle one of `lists`.
std::vector<double> Medians(const std::vector<const std::vector<double>*>& lists) {
  std::vector<double> medians;
  for (size_t i = 0; i < lists[0]->size(); ++i) {
    std::vector<double> values;
    for (const std::vector<double>* list : lists) values.push_back((*list)[i]);
    std::ranges::sort(values);
    medians.push_back(values[values.size() / 2]);
  }
  return medians;
}

HostRates MedianOf(const std::vector<Round>& rounds) {
  HostRates median = rounds[0].host;
  for (const RatesOfHost field : kOfHost) {
    std::vector<const std::vector<double>*> lists;
    for (const Round& round : rounds) lists.push_back(&(round.host.*field));
    median.*field = Medians(lists);
  }
  return median;
}

// With a memory that gives plain reads as many bytes per second as `reads` says, by thread count.
std::vector<TypeRates> MedianTypes(std::vector<Round> rounds, const std::vector<double>& reads) {
  std::vector<TypeRates> medians = rounds[0].host.types;
  for (Round& round : rounds) {
    for (size_t i = 0; i < medians.size(); ++i) {
      MoveToMemory(round.reads[i], reads, &round.host.types[i]);
    }
  }
  for (size_t i = 0; i < medians.size(); ++i) {
    for (const RatesOfType field : kOfType) {
      std::vector<const std::vector<double>*> lists;
      for (const Round& round : rounds) lists.push_back(&(round.host.types[i].*field));
      medians[i].*field = Medians(lists);
    }
  }
  return medians;
}

int RoundsOf(bool quick) { return quick ? 1 : kRounds; }

}  // namespace

std::vector<RateKey> UsualRateTypes() {
  std::vector<RateKey> types;
  for (const DType dtype :
       {DType::kF16, DType::kQ8_0, DType::kQ6_K, DType::kQ5_K, DType::kQ4_K, DType::kQ4_0}) {
    for (const int64_t cols : kUsualCols) types.push_back({dtype, cols});
  }
  return types;
}

MachineRates MeasureRates(const MeasureOptions& options) {
  NoiseMeter noise;
  MachineRates rates;
  rates.machine = ThisMachine();
  rates.measured_at_s = static_cast<int64_t>(std::time(nullptr));
  RateMemory memory(options.quick ? kQuickBytes : kMemoryBytes);
  const int n_rounds = RoundsOf(options.quick);
  const uint64_t n_steps = static_cast<uint64_t>(n_rounds) * (options.types.size() + 1);
  uint64_t step = 0;
  const auto begins = [&](const RateKey& key) {
    Report(options.progress, "measuring " + std::string(DTypeName(key.dtype)), step++, n_steps);
  };
  std::vector<Round> rounds(static_cast<size_t>(n_rounds));
  for (Round& round : rounds) {
    round.host.thread_counts = ThreadCounts(options);
    Report(options.progress, "measuring memory and threads", step++, n_steps);
    MeasureMemoryAndThreads(memory, noise, &round.host);
    MeasureGather(memory, noise, &round.host);
    MeasureTypes(options.types, memory, noise, begins, &round);
  }
  rates.host = MedianOf(rounds);
  rates.host.types = MedianTypes(std::move(rounds), rates.host.read_bytes_per_s);
  rates.noise = noise.Result();
  if (!options.storage_folder.empty()) MeasureStorage(options.storage_folder, &rates.host);
  if (options.gpu && !rates.machine.gpu.empty()) rates.gpu = MeasureGpu(options.types);
  return rates;
}

bool AddMissingTypes(const std::vector<RateKey>& types, bool quick, MachineRates* rates) {
  std::vector<RateKey> missing;
  for (const RateKey& key : types) {
    const bool known = rates->Has(key) || std::ranges::find(missing, key) != missing.end();
    if (!known) missing.push_back(key);
  }
  if (missing.empty()) return false;
  NoiseMeter noise;
  RateMemory memory(quick ? kQuickBytes : kMemoryBytes);
  std::vector<Round> rounds(static_cast<size_t>(RoundsOf(quick)));
  for (Round& round : rounds) {
    round.host.thread_counts = rates->host.thread_counts;
    MeasureTypes(
        missing, memory, noise, [](const RateKey&) {}, &round);
  }
  const std::vector<TypeRates> added = MedianTypes(std::move(rounds), rates->host.read_bytes_per_s);
  rates->host.types.insert(rates->host.types.end(), added.begin(), added.end());
  return true;
}

}  // namespace thermocline
