#include "tools/reports/rates_report.h"

#include <fmt/format.h>

#include "runtime/core/size_text.h"

namespace thermocline {
namespace {

using Json = nlohmann::ordered_json;

constexpr double kGiga = 1e9;

// A line of one value per thread count.
std::string ByThreads(const HostRates& host, const std::string& name,
                      const std::vector<double>& values, double unit) {
  std::string line = fmt::format("{:<34}", name);
  for (size_t c = 0; c < host.thread_counts.size(); ++c) {
    line += fmt::format("{:>10.2f}", values[c] / unit);
  }
  return line + "\n";
}

std::string HostTable(const HostRates& host) {
  std::string text = fmt::format("{:<34}", "threads");
  for (const int64_t n : host.thread_counts) text += fmt::format("{:>10}", n);
  text += "\n" + ByThreads(host, "plain reads, GB/s", host.read_bytes_per_s, kGiga);
  if (!host.mapped_bytes_per_s.empty()) {
    text += ByThreads(host, "plain reads of small pages, GB/s", host.mapped_bytes_per_s, kGiga);
  }
  text += ByThreads(host, "attention reads, GB/s", host.attend_bytes_per_s, kGiga);
  text += ByThreads(host, "an op, us", host.op_us, 1);
  text += ByThreads(host, "a pass, us", host.wake_us, 1);
  text += ByThreads(host, "a hand-over, us", host.handover_us, 1);
  return text;
}

std::string TypeTable(const std::string& device, const std::vector<TypeRates>& types,
                      const std::vector<int64_t>& counts) {
  std::string text = fmt::format("\n{:<8}{:>7}{:>8}", device, "cols", "threads");
  for (const int64_t rows : kRateRows) text += fmt::format("{:>9}", fmt::format("{} rows", rows));
  text += fmt::format("{:>9}{:>9}{:>9}{:>11}\n", "FFN 1", "cached", "sums", "1 row GB/s");
  for (const TypeRates& type : types) {
    const double bytes = static_cast<double>(RowBytes(type.key.dtype, type.key.cols)) /
                         static_cast<double>(type.key.cols);
    for (size_t c = 0; c < counts.size(); ++c) {
      text += fmt::format("{:<8}{:>7}{:>8}", DTypeName(type.key.dtype), type.key.cols, counts[c]);
      const double* const rates = type.linear_weights_per_s.data() + c * kRateRowCounts;
      for (size_t r = 0; r < kRateRowCounts; ++r) text += fmt::format("{:>9.3f}", rates[r] / kGiga);
      text += fmt::format("{:>9.3f}{:>9.3f}{:>9.3f}{:>11.2f}\n",
                          type.ffn_weights_per_s[c * kRateRowCounts] / kGiga,
                          type.cached_weights_per_s[c] / kGiga, type.sum_weights_per_s[c] / kGiga,
                          rates[0] * bytes / kGiga);
    }
  }
  return text;
}

std::string GatherTable(const HostRates& host) {
  std::string text = fmt::format("\n{:<24}", "share of rows");
  for (const double density : host.gather_density) {
    text += fmt::format("{:>8}", fmt::format("{:.0f} %", 100 * density));
  }
  text += "\n";
  const size_t n = host.gather_density.size();
  for (size_t i = 0; i < host.gather_row_bytes.size(); ++i) {
    for (const bool sum : {false, true}) {
      text += fmt::format("{:<24}", fmt::format("{} of {:.0f} B", sum ? "sums" : "products",
                                                host.gather_row_bytes[i]));
      const std::vector<double>& grid = sum ? host.sum_gather : host.linear_gather;
      for (size_t d = 0; d < n; ++d) text += fmt::format("{:>8.2f}", grid[i * n + d]);
      text += "\n";
    }
  }
  return text;
}

std::string GpuTable(const GpuRates& gpu) {
  std::string text = fmt::format(
      "\nGPU{}: reads {:.1f} GB/s, to it {:.2f} GB/s, from it {:.2f} GB/s, an op {:.2f} us, a "
      "hand-over {:.1f} us\n",
      gpu.emulated ? " (emulated by the CPU: this says nothing of a GPU)" : "",
      gpu.read_bytes_per_s / kGiga, gpu.to_gpu_bytes_per_s / kGiga,
      gpu.from_gpu_bytes_per_s / kGiga, gpu.op_us, gpu.handover_us);
  return text + TypeTable("GPU", gpu.types, {1});
}

std::string NoiseText(const RatesNoise& noise) {
  std::string text = fmt::format(
      "\nwhile it was measured: {:.1f} % of the time on processors, others used {:.1f} % of the "
      "machine, spread {:.2f}\n",
      100 * noise.cpu_share, 100 * noise.others_share, noise.spread);
  if (noise.disturbed()) {
    text += "note: other work disturbed this; calibrate again when the machine is quiet\n";
  }
  return text;
}

}  // namespace

std::string RatesTable(const MachineRates& rates) {
  std::string text = rates.machine.Text() + "\n\n" + HostTable(rates.host);
  text += TypeTable("type", rates.host.types, rates.host.thread_counts);
  text += "in 10^9 weights/s, each multiplied by so many rows of a pass at once\n";
  text += GatherTable(rates.host);
  text += "as a share of the rate at which all rows are read\n";
  for (size_t i = 0; i < rates.host.storage_block_bytes.size(); ++i) {
    text += fmt::format("{}storage, {} at a time: {:.2f} GB/s\n", i == 0 ? "\n" : "",
                        FormatBytes(static_cast<uint64_t>(rates.host.storage_block_bytes[i])),
                        rates.host.storage_bytes_per_s[i] / kGiga);
  }
  if (rates.gpu) text += GpuTable(*rates.gpu);
  return text + NoiseText(rates.noise);
}

namespace {

Json TypesJson(const std::vector<TypeRates>& types) {
  Json list = Json::array();
  for (const TypeRates& type : types) {
    list.push_back({{"type", DTypeName(type.key.dtype)},
                    {"cols", type.key.cols},
                    {"linear_weights_per_s", type.linear_weights_per_s},
                    {"ffn_weights_per_s", type.ffn_weights_per_s},
                    {"cached_weights_per_s", type.cached_weights_per_s},
                    {"sum_weights_per_s", type.sum_weights_per_s}});
  }
  return list;
}

}  // namespace

Json RatesJson(const MachineRates& rates) {
  const HostRates& host = rates.host;
  Json json;
  json["machine"] = {{"cpu", rates.machine.cpu},
                     {"isa", rates.machine.isa},
                     {"cores", rates.machine.cores},
                     {"gpu", rates.machine.gpu}};
  json["measured_at_s"] = rates.measured_at_s;
  json["host"] = {{"thread_counts", host.thread_counts},
                  {"read_bytes_per_s", host.read_bytes_per_s},
                  {"mapped_bytes_per_s", host.mapped_bytes_per_s},
                  {"attend_bytes_per_s", host.attend_bytes_per_s},
                  {"op_us", host.op_us},
                  {"pass_us", host.wake_us},
                  {"handover_us", host.handover_us},
                  {"rows", kRateRows},
                  {"types", TypesJson(host.types)},
                  {"gather_row_bytes", host.gather_row_bytes},
                  {"gather_density", host.gather_density},
                  {"linear_gather", host.linear_gather},
                  {"sum_gather", host.sum_gather},
                  {"storage_block_bytes", host.storage_block_bytes},
                  {"storage_bytes_per_s", host.storage_bytes_per_s}};
  if (rates.gpu) {
    json["gpu"] = {{"emulated", rates.gpu->emulated},
                   {"read_bytes_per_s", rates.gpu->read_bytes_per_s},
                   {"to_gpu_bytes_per_s", rates.gpu->to_gpu_bytes_per_s},
                   {"from_gpu_bytes_per_s", rates.gpu->from_gpu_bytes_per_s},
                   {"op_us", rates.gpu->op_us},
                   {"handover_us", rates.gpu->handover_us},
                   {"types", TypesJson(rates.gpu->types)}};
  }
  json["noise"] = {{"cpu_share", rates.noise.cpu_share},
                   {"others_share", rates.noise.others_share},
                   {"spread", rates.noise.spread},
                   {"disturbed", rates.noise.disturbed()}};
  return json;
}

}  // namespace thermocline
