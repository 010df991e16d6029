#include "tools/reports/change_table.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <utility>

#include "runtime/core/error.h"
#include "runtime/core/size_text.h"

namespace thermocline {
namespace {

// Returns a line for each type that rows hold no whole blocks of.
std::string UnfitNotes(const std::vector<TensorChange>& changes) {
  std::map<std::pair<DType, DType>, int> counts;
  for (const TensorChange& change : changes) {
    if (change.unfit) ++counts[{*change.unfit, change.to}];
  }
  std::string text;
  for (const auto& [types, count] : counts) {
    const auto& [wanted, to] = types;
    text += fmt::format(
        "{} tensor{} could not become {}, whose blocks hold {} weights of a row: {} "
        "instead\n",
        count, count == 1 ? "" : "s", DTypeName(wanted), GetDTypeInfo(wanted).block_elems,
        DTypeName(to));
  }
  return text;
}

}  // namespace

std::string ChangeTable(const std::vector<TensorChange>& changes) {
  size_t width = 6;
  for (const TensorChange& change : changes) width = std::max(width, change.name.size());
  std::string text =
      fmt::format("{:<{}}  {:>6} -> {:<6}{:>12}{:>12}{:>14}{:>14}\n", "tensor", width, "from", "to",
                  "bytes", "bytes now", "rel. RMS err", "max abs err");
  uint64_t from_bytes = 0;
  uint64_t to_bytes = 0;
  for (const TensorChange& change : changes) {
    from_bytes += change.from_bytes;
    to_bytes += change.to_bytes;
    text += fmt::format(
        "{:<{}}  {:>6} -> {:<6}{:>12}{:>12}", Printable(change.name), width,
        change.from_name.empty() ? DTypeName(change.from) : std::string_view(change.from_name),
        DTypeName(change.to), FormatBytes(change.from_bytes), FormatBytes(change.to_bytes));
    const bool moved_only = change.relative_rms_error == 0 && change.max_abs_error == 0;
    text += moved_only ? fmt::format("{:>14}{:>14}\n", "-", "-")
                       : fmt::format("{:>12.3f} %{:>14.3g}\n", 100 * change.relative_rms_error,
                                     change.max_abs_error);
  }
  text += fmt::format("{:<{}}  {:>16}{:>12}{:>12}\n", "total", width, "", FormatBytes(from_bytes),
                      FormatBytes(to_bytes));
  return text + UnfitNotes(changes);
}

TypeRule ParseTypeArgument(const std::string& verb, const std::string& name) {
  if (const auto rule = ParseTypeRule(name)) return *rule;
  const bool read_only = ParseWeightDType(name).has_value();
  throw CLI::ParseError(
      fmt::format("{}: {}: '{}'; known are {} and the mixes {}", verb,
                  read_only ? "a type that is read and not written" : "no such type",
                  Printable(name), WrittenDTypeNames(), TypeMixNames()),
      CLI::ExitCodes::ValidationError);
}

}  // namespace thermocline
