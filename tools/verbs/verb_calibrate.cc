// thermocline calibrate: how fast this machine is, for placements and plans.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>

#include "runtime/core/error.h"
#include "runtime/rates/measure_rates.h"
#include "tools/bench/cost_validation.h"
#include "tools/reports/messages.h"
#include "tools/reports/rates_report.h"
#include "tools/terminal/progress_bar.h"
#include "tools/verbs/cli_options.h"
#include "tools/verbs/output_path.h"
#include "tools/verbs/verbs.h"

namespace thermocline {
namespace {

constexpr const char* kCalibrateDetails =
    R"(Measures how fast this machine reads memory, multiplies with weights of each type, gathers single
rows, hands over between tiers and reads files, with the kernels and threads that runs use; with a
GPU its memory, kernels and bus, too. It takes under 30 seconds and says when other work disturbed it.
The rates are kept for this machine (its CPU, instruction set, cores and GPU), and `place` and
`profile` count with them.

--validate then writes synthetic models of some hundred MiB, runs them in several ways, and prints
what the rates predict for each beside what it takes.

Example:
  thermocline calibrate)";

struct CalibrateArgs {
  MeasureOptions measure;
  std::string output_path;
  std::string rates_path;
  bool json = false;
  bool validate = false;
};

std::string ModeText(const ValidationRow& row) {
  const std::string rows = row.prompt      ? fmt::format(", prompt of {}", row.rows)
                           : row.rows == 1 ? ""
                                           : fmt::format(", {} sequences", row.rows);
  return std::string(SparseModeName(row.mode)) + rows;
}

double Median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

// "12 of 22 within 15 %, median 4.5 %, largest 30.1 %".
std::string ErrorsText(std::vector<double> errors) {
  for (double& error : errors) error = std::fabs(error);
  const auto n_within = std::ranges::count_if(errors, [](double error) { return error <= 0.15; });
  return fmt::format("{} of {} within 15 %, median {:.1f} %, largest {:.1f} %", n_within,
                     errors.size(), 100 * Median(errors), 100 * *std::ranges::max_element(errors));
}

std::string ValidationTable(const std::vector<ValidationRow>& rows) {
  std::string text =
      fmt::format("\n{:<18}{:<6}{:>6}{:>8}  {:<21}{:>10}{:>10}{:>9}{:>8}{:>8}{:>10}{:>9}\n",
                  "layers x d x d_ff", "type", "hot", "threads", "mode", "predicted", "measured",
                  "error", "spread", "memory", "predicted", "error");
  std::vector<double> errors;
  std::vector<double> errors_then;
  for (const ValidationRow& row : rows) {
    const std::string hot = row.hot_share < 0 ? "-" : fmt::format("{:.0f} %", 100 * row.hot_share);
    text += fmt::format(
        "{:<18}{:<6}{:>6}{:>8}  {:<21}{:>10.3f}{:>10.3f}{:>+8.1f}%{:>8.2f}{:>8.2f}{:>10.3f}"
        "{:>+8.1f}%\n",
        row.shape, DTypeName(row.dtype), hot, row.n_threads, ModeText(row), row.predicted_ms,
        row.measured_ms, 100 * row.error(), row.spread, row.memory_share, row.predicted_then_ms,
        100 * row.error_then());
    errors.push_back(row.error());
    errors_then.push_back(row.error_then());
  }
  return text +
         fmt::format(
             "ms per token; measured: the median of the passes of a round, on average over three\n"
             "hot: share of every layer's neurons on the fast tier (a second device of the CPU)\n"
             "spread: 90th over 10th percentile: well above 1 where other work disturbed the "
             "passes\n"
             "memory: what plain reads gave then, over what they gave when the rates were "
             "measured;\n"
             "        behind it what is predicted for such a memory\n"
             "error: {}\n"
             "error with the memory as it was then: {}\n",
             ErrorsText(errors), ErrorsText(errors_then));
}

nlohmann::ordered_json ValidationJson(const std::vector<ValidationRow>& rows) {
  auto list = nlohmann::ordered_json::array();
  for (const ValidationRow& row : rows) {
    list.push_back({{"shape", row.shape},
                    {"type", DTypeName(row.dtype)},
                    {"hot_share", row.hot_share < 0 ? nlohmann::ordered_json()
                                                    : nlohmann::ordered_json(row.hot_share)},
                    {"threads", row.n_threads},
                    {"mode", SparseModeName(row.mode)},
                    {"rows", row.rows},
                    {"prompt", row.prompt},
                    {"predicted_ms_per_token", row.predicted_ms},
                    {"measured_ms_per_token", row.measured_ms},
                    {"spread", row.spread},
                    {"memory_share", row.memory_share},
                    {"predicted_then_ms_per_token", row.predicted_then_ms}});
  }
  return list;
}

// Where rates are kept; its folder is made.
std::string SettledOutput(const CalibrateArgs& args) {
  if (!args.output_path.empty()) return args.output_path;
  std::string path = RatesCachePath(ThisMachine());
  if (path.empty()) {
    throw Error({.what = "there is no place to keep the rates",
                 .expected = "XDG_CACHE_HOME or HOME in the environment",
                 .found = "neither",
                 .hint = "name a file with -o"});
  }
  std::error_code failed;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), failed);
  return path;
}

MachineRates RatesOf(CalibrateArgs& args) {
  if (!args.rates_path.empty()) {
    MachineRates rates = ReadRates(args.rates_path);
    CheckRatesFit(rates, ThisMachine());
    return rates;
  }
  const std::string output = SettledOutput(args);
  CheckOutputPath(output, {});
  args.measure.types = UsualRateTypes();
  args.measure.progress = StderrProgress();
  const std::filesystem::path folder = std::filesystem::path(output).parent_path();
  args.measure.storage_folder = folder.empty() ? "." : folder.string();
  MachineRates rates = MeasureRates(args.measure);
  ClearStderrProgress();
  WriteRates(output, rates);
  rates.path = output;
  return rates;
}

void RunCalibrate(CalibrateArgs& args) {
  const MachineRates rates = RatesOf(args);
  std::vector<ValidationRow> rows;
  if (args.validate) {
    ValidationOptions validation;
    validation.folder = std::filesystem::temp_directory_path();
    validation.n_threads = args.measure.n_threads;
    validation.progress = StderrProgress();
    rows = ValidateCosts(rates, validation);
    ClearStderrProgress();
  }
  if (args.json) {
    nlohmann::ordered_json json = RatesJson(rates);
    if (args.validate) json["validation"] = ValidationJson(rows);
    return WriteOutput(json.dump(2) + "\n");
  }
  WriteOutput(RatesTable(rates) + fmt::format("\nrates: {}\n", Printable(rates.path, 400)) +
              (args.validate ? ValidationTable(rows) : ""));
}

}  // namespace

void AddCalibrateVerb(CLI::App& app) {
  const auto args = std::make_shared<CalibrateArgs>();
  CLI::App* verb = AddVerb(app, "calibrate", "Measures the machine's rates, which placements go by",
                           kCalibrateDetails);
  AddThreadsOption(*verb, &args->measure.n_threads);
  auto* output = verb->add_option("-o,--output", args->output_path,
                                  "File of rates to write, instead of where they are kept")
                     ->type_name("FILE");
  verb->add_flag("--quick", args->measure.quick, "Measure in a few seconds, and less well");
  verb->add_flag("--json", args->json, "Print JSON");
  verb->add_flag("--validate", args->validate,
                 "Also compare predicted with measured times, on synthetic models in the folder "
                 "for temporary files (some minutes, up to 1 GiB)");
  verb->add_option("--rates", args->rates_path, "Print and validate these, and measure nothing")
      ->type_name("FILE")
      ->excludes(output);
  verb->callback([args] { RunCalibrate(*args); });
}

}  // namespace thermocline
