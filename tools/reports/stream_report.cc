#include "tools/reports/stream_report.h"

#include <fmt/format.h>

namespace thermocline {
namespace {

const char* OptionName(StreamCold option) {
  switch (option) {
    case StreamCold::kAuto:
      return "auto";
    case StreamCold::kOn:
      return "on";
    case StreamCold::kOff:
      return "off";
  }
  return "";
}

}  // namespace

std::string StreamUseText(const StreamUse& use) {
  if (!use.possible) return "";
  std::string text = fmt::format(
      "cold neurons of prompts: {} batches streamed to the GPU, {} on the CPU (--gpu-stream {}",
      use.streamed_batches, use.cpu_batches, OptionName(use.option));
  if (use.rates.measured()) {
    text += fmt::format(": bus {:.2f} GB/s; GPU {:.1f}, CPU {:.1f} GB/s times tokens",
                        use.rates.bus_bytes_per_s / 1e9, use.rates.gpu_token_bytes_per_s / 1e9,
                        use.rates.cpu_token_bytes_per_s / 1e9);
  }
  return text + ")";
}

nlohmann::ordered_json StreamUseJson(const StreamUse& use) {
  using Object = nlohmann::ordered_json;
  if (!use.possible) return nullptr;
  const auto rate = [&](double value) {
    return use.rates.measured() ? Object(value) : Object(nullptr);
  };
  return {{"option", OptionName(use.option)},
          {"streamed_batches", use.streamed_batches},
          {"cpu_batches", use.cpu_batches},
          {"bus_bytes_per_s", rate(use.rates.bus_bytes_per_s)},
          {"gpu_token_bytes_per_s", rate(use.rates.gpu_token_bytes_per_s)},
          {"cpu_token_bytes_per_s", rate(use.rates.cpu_token_bytes_per_s)}};
}

}  // namespace thermocline
