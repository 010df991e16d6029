// Rates as a file: strings as keys, numbers as tensors of one row.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "runtime/core/error.h"
#include "runtime/gguf/gguf_writer.h"
#include "runtime/gguf/own_files.h"
#include "runtime/rates/machine_rates.h"

namespace thermocline {
namespace {

constexpr const char* kRatesFileType = "thermocline-rates";
constexpr uint64_t kMaxPoints = 4096;  // of one list
constexpr double kMostCount = 1 << 24;
constexpr double kLeastRate = 1e-12;
constexpr double kMostRate = 1e18;
constexpr const char* kPrefix = "thermocline.rates.";

std::string TypeName(const std::string& device, const RateKey& key, const char* what) {
  return fmt::format("{}.{}.{}.{}", device, DTypeName(key.dtype), key.cols, what);
}
std::string ColsName(const std::string& device) { return device + ".row_lengths"; }

class RatesWriter {
 public:
  explicit RatesWriter(const std::string& path) : file_(path) {}

  void Set(const std::string& key, GgufValue value) { file_.Set(kPrefix + key, std::move(value)); }
  void SetArchitecture() { file_.Set("general.architecture", GgufValue::string(kRatesFileType)); }
  void Add(const std::string& name, std::vector<double> values) {
    if (!values.empty()) lists_.emplace_back(name, std::move(values));
  }
  void AddTypes(const std::string& device, const std::vector<TypeRates>& types) {
    std::set<double> cols;
    for (const TypeRates& type : types) {
      cols.insert(static_cast<double>(type.key.cols));
      Add(TypeName(device, type.key, "linear_weights_per_s"), type.linear_weights_per_s);
      Add(TypeName(device, type.key, "ffn_weights_per_s"), type.ffn_weights_per_s);
      Add(TypeName(device, type.key, "cached_weights_per_s"), type.cached_weights_per_s);
      Add(TypeName(device, type.key, "sum_weights_per_s"), type.sum_weights_per_s);
    }
    Add(ColsName(device), {cols.begin(), cols.end()});
  }
  void Finish() {
    for (const auto& [name, values] : lists_) {
      file_.DeclareTensor(name, DType::kF64, {values.size()});
    }
    for (const auto& [name, values] : lists_) {
      file_.WriteTensor(name, values.data(), values.size() * sizeof(double));
    }
    file_.Finish();
  }

 private:
  GgufWriter file_;
  std::vector<std::pair<std::string, std::vector<double>>> lists_;
};

[[noreturn]] void FailList(const GgufReader& gguf, const std::string& name,
                           const std::string& expected, const std::string& found) {
  throw Error({.path = gguf.path(),
               .what = "tensor " + name,
               .expected = expected,
               .found = found,
               .hint = "calibrate the machine again"});
}

// Reads n rates, each a positive number. n 0: as many as there are, none where there is no tensor.
std::vector<double> ReadList(const GgufReader& gguf, const std::string& name, size_t n) {
  const GgufTensorInfo* stored = gguf.FindTensor(name);
  if (n == 0 && stored == nullptr) return {};
  if (stored != nullptr && stored->n_elements > kMaxPoints) {
    FailList(gguf, name, fmt::format("at most {} numbers", kMaxPoints),
             std::to_string(stored->n_elements));
  }
  const auto wanted = static_cast<int64_t>(n == 0 ? stored->n_elements : n);
  std::vector<double> values = ReadVector<double>(gguf, name, DType::kF64, wanted);
  for (const double value : values) {
    if (value >= kLeastRate && value <= kMostRate) continue;
    FailList(gguf, name, fmt::format("numbers from {:g} to {:g}", kLeastRate, kMostRate),
             fmt::format("{:g}", value));
  }
  return values;
}

// The same, at least one of them and ascending.
std::vector<double> ReadAxis(const GgufReader& gguf, const std::string& name) {
  std::vector<double> values = ReadList(gguf, name, 0);
  if (values.empty()) FailList(gguf, name, "numbers", "none");
  for (size_t i = 1; i < values.size(); ++i) {
    if (values[i] <= values[i - 1]) {
      FailList(gguf, name, "ascending numbers",
               fmt::format("{:g} behind {:g}", values[i], values[i - 1]));
    }
  }
  return values;
}

// Reads whole numbers from 1 on, ascending.
std::vector<int64_t> ReadCounts(const GgufReader& gguf, const std::string& name) {
  std::vector<int64_t> counts;
  for (const double value : ReadAxis(gguf, name)) {
    if (value != std::floor(value) || value > kMostCount) {
      FailList(gguf, name, fmt::format("whole numbers up to {:g}", kMostCount),
               fmt::format("{:g}", value));
    }
    counts.push_back(static_cast<int64_t>(value));
  }
  return counts;
}

std::vector<TypeRates> ReadTypes(const GgufReader& gguf, const std::string& device,
                                 size_t n_counts) {
  std::vector<TypeRates> types;
  if (gguf.FindTensor(ColsName(device)) == nullptr) return types;
  const std::vector<int64_t> lengths = ReadCounts(gguf, ColsName(device));
  for (const DType dtype : kWeightDTypes) {
    for (const int64_t cols : lengths) {
      const RateKey key{dtype, cols};
      const std::string linear = TypeName(device, key, "linear_weights_per_s");
      if (gguf.FindTensor(linear) == nullptr) continue;
      types.push_back(
          {key, ReadList(gguf, linear, n_counts * kRateRowCounts),
           ReadList(gguf, TypeName(device, key, "ffn_weights_per_s"), n_counts * kRateRowCounts),
           ReadList(gguf, TypeName(device, key, "cached_weights_per_s"), n_counts),
           ReadList(gguf, TypeName(device, key, "sum_weights_per_s"), n_counts)});
    }
  }
  return types;
}

HostRates ReadHost(const GgufReader& gguf) {
  HostRates host;
  host.thread_counts = ReadCounts(gguf, "host.thread_counts");
  if (host.thread_counts.front() != 1) {
    FailList(gguf, "host.thread_counts", "1 first", std::to_string(host.thread_counts.front()));
  }
  const size_t n = host.thread_counts.size();
  host.read_bytes_per_s = ReadList(gguf, "host.read_bytes_per_s", n);
  if (gguf.FindTensor("host.mapped_bytes_per_s") != nullptr) {
    host.mapped_bytes_per_s = ReadList(gguf, "host.mapped_bytes_per_s", n);
  }
  host.op_us = ReadList(gguf, "host.op_us", n);
  host.wake_us = ReadList(gguf, "host.wake_us", n);
  host.handover_us = ReadList(gguf, "host.handover_us", n);
  host.attend_bytes_per_s = ReadList(gguf, "host.attend_bytes_per_s", n);
  host.types = ReadTypes(gguf, "host", n);
  host.gather_row_bytes = ReadAxis(gguf, "host.gather_row_bytes");
  host.gather_density = ReadAxis(gguf, "host.gather_density");
  const size_t n_grid = host.gather_row_bytes.size() * host.gather_density.size();
  host.linear_gather = ReadList(gguf, "host.linear_gather", n_grid);
  host.sum_gather = ReadList(gguf, "host.sum_gather", n_grid);
  host.storage_block_bytes = ReadList(gguf, "host.storage_block_bytes", 0);
  if (!host.storage_block_bytes.empty()) {
    host.storage_bytes_per_s =
        ReadList(gguf, "host.storage_bytes_per_s", host.storage_block_bytes.size());
  }
  return host;
}

std::optional<GpuRates> ReadGpu(const GgufReader& gguf) {
  const std::vector<double> numbers = ReadList(gguf, "gpu.rates", 0);
  if (numbers.empty()) return {};
  if (numbers.size() != 5) FailList(gguf, "gpu.rates", "5 numbers", std::to_string(numbers.size()));
  GpuRates gpu{.emulated = gguf.GetBool(std::string(kPrefix) + "gpu_emulated").value_or(false),
               .read_bytes_per_s = numbers[0],
               .to_gpu_bytes_per_s = numbers[1],
               .from_gpu_bytes_per_s = numbers[2],
               .op_us = numbers[3],
               .handover_us = numbers[4],
               .types = {}};
  gpu.types = ReadTypes(gguf, "gpu", 1);
  return gpu;
}

}  // namespace

MachineRates ReadRates(const std::string& path) {
  const GgufReader gguf(path);
  RequireFileType(gguf, kRatesFileType, "rates", {});
  const auto key = [](const char* name) { return std::string(kPrefix) + name; };
  gguf.RequireU64(key("version"), kRatesVersion, kRatesVersion);
  MachineRates rates;
  rates.path = path;
  rates.machine = {gguf.RequireString(key("cpu")), gguf.RequireString(key("isa")),
                   gguf.RequireString(key("cores")), gguf.RequireString(key("gpu"))};
  rates.measured_at_s =
      static_cast<int64_t>(gguf.RequireU64(key("measured_at_s"), 0, uint64_t{1} << 40));
  rates.host = ReadHost(gguf);
  rates.gpu = ReadGpu(gguf);
  const std::vector<double> noise = ReadList(gguf, "noise", 3);
  rates.noise = {noise[0], noise[1], noise[2]};
  return rates;
}

void WriteRates(const std::string& path, const MachineRates& rates) {
  RatesWriter writer(path);
  writer.SetArchitecture();
  writer.Set("version", GgufValue::u64(kRatesVersion));
  writer.Set("cpu", GgufValue::string(rates.machine.cpu));
  writer.Set("isa", GgufValue::string(rates.machine.isa));
  writer.Set("cores", GgufValue::string(rates.machine.cores));
  writer.Set("gpu", GgufValue::string(rates.machine.gpu));
  writer.Set("measured_at_s", GgufValue::u64(static_cast<uint64_t>(rates.measured_at_s)));
  const HostRates& host = rates.host;
  writer.Add("host.thread_counts", {host.thread_counts.begin(), host.thread_counts.end()});
  writer.Add("host.read_bytes_per_s", host.read_bytes_per_s);
  writer.Add("host.mapped_bytes_per_s", host.mapped_bytes_per_s);
  writer.Add("host.op_us", host.op_us);
  writer.Add("host.wake_us", host.wake_us);
  writer.Add("host.handover_us", host.handover_us);
  writer.Add("host.attend_bytes_per_s", host.attend_bytes_per_s);
  writer.AddTypes("host", host.types);
  writer.Add("host.gather_row_bytes", host.gather_row_bytes);
  writer.Add("host.gather_density", host.gather_density);
  writer.Add("host.linear_gather", host.linear_gather);
  writer.Add("host.sum_gather", host.sum_gather);
  writer.Add("host.storage_block_bytes", host.storage_block_bytes);
  writer.Add("host.storage_bytes_per_s", host.storage_bytes_per_s);
  if (rates.gpu) {
    const GpuRates& gpu = *rates.gpu;
    writer.Set("gpu_emulated", GgufValue::boolean(gpu.emulated));
    writer.Add("gpu.rates", {gpu.read_bytes_per_s, gpu.to_gpu_bytes_per_s, gpu.from_gpu_bytes_per_s,
                             gpu.op_us, gpu.handover_us});
    writer.AddTypes("gpu", gpu.types);
  }
  writer.Add("noise", {rates.noise.cpu_share, std::max(rates.noise.others_share, kLeastRate),
                       rates.noise.spread});
  writer.Finish();
}

}  // namespace thermocline
