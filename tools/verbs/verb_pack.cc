#include <fmt/format.h>

#include <memory>

#include "runtime/convert/pack_columns.h"
#include "runtime/convert/pack_model.h"
#include "runtime/core/error.h"
#include "runtime/threads/processors.h"
#include "tools/reports/change_table.h"
#include "tools/terminal/progress_bar.h"
#include "tools/verbs/cli_options.h"
#include "tools/verbs/output_path.h"
#include "tools/verbs/verbs.h"

namespace thermocline {
namespace {

constexpr const char* kPackDetails =
    R"(Within each layer the neurons are sorted as the placement says, hot to cold, and each neuron's up and down
weights are laid side by side. Such a model loads without being rearranged, and what a tier holds is one
run of rows in the file. It gives the same text as the model it was made of, runs with the placement it
was packed for, and without one. `quantize` and `inspect` read it, too.

The down projection is stored along the other dimension. In F32, F16 and BF16 that changes nothing. In a
quantised model its weights are rounded a second time, and the report says what that costs; packing the
F16 file with --type rounds only once.

With --columns it is laid out for thresholds instead (--sparse teal:SHARE, wina:SHARE): a channel of a
matrix's input is then a run of bytes, which is not read where the channel is skipped. Such a model runs
on the CPU, without a placement, and takes the thresholds of its source. Best packed from an F16 file with
--type.

OUT appears only when it is complete. Needs memory for the up and down projections of one layer.

Examples:
  thermocline pack -m model-q8_0.gguf --placement model.placement.gguf -o model-packed.gguf
  thermocline pack -m model-f16.gguf --placement model.placement.gguf --type Q8_0 -o packed.gguf)";

struct PackArgs {
  std::string input;
  std::string output;
  std::string type;
  bool pure = false;
  PackOptions options;
  bool columns = false;
};

PackReport PackByColumn(const PackArgs& args) {
  return PackColumns(args.input, args.output,
                     {args.options.rule, args.options.n_threads, args.options.progress});
}

void Pack(PackArgs& args) {
  if (!args.type.empty()) {
    args.options.rule = ParseTypeArgument("pack", args.type);
    args.options.rule->pure = args.pure;
  }
  if (args.options.n_threads == 0) args.options.n_threads = DefaultThreadCount();
  args.options.progress = StderrProgress();
  CheckNotRead(args.output, {args.options.placement_path});
  if (args.columns != args.options.placement_path.empty()) {
    FailUsage("pack", args.columns ? "--columns is for models without a placement"
                                   : "--placement FILE is needed (or --columns, for thresholds)");
  }
  const PackReport report =
      args.columns ? PackByColumn(args) : PackModel(args.input, args.output, args.options);
  if (!report.changes.empty()) WriteOutput(ChangeTable(report.changes));
  if (report.widened) {
    WriteOutput("up and down projections of a layer in two types are stored in the larger one\n");
  }
  WriteOutput(report.requantised_down
                  ? fmt::format("{} were quantised a second time: relative RMS error {:.3f} %\n",
                                args.columns ? "matrices" : "down projections",
                                100 * report.down_relative_rms_error)
                  : "no weight was rounded a second time\n");
  PrintNote(fmt::format("written: {}\n", Printable(args.output, 400)));
}

}  // namespace

void AddPackVerb(CLI::App& app) {
  const auto args = std::make_shared<PackArgs>();
  CLI::App* verb = AddVerb(app, "pack", "Lays a model out for a placement", kPackDetails);
  verb->add_option("-m,--model", args->input, "GGUF model to read")->required()->type_name("IN");
  verb->add_option("--placement", args->options.placement_path,
                   "Placement made for this model by `profile` or `place`")
      ->type_name("FILE");
  verb->add_flag("--columns", args->columns,
                 "Instead: store q, k, v, o, gate and up by column and down by neuron, for "
                 "--sparse teal:SHARE and wina:SHARE");
  verb->add_option("-o,--output", args->output, "GGUF file to write")->required()->type_name("OUT");
  verb->add_option(
          "--type", args->type,
          "Also give the weights this type or mix of types, as `quantize` does (its --help "
          "lists them)")
      ->type_name("TYPE");
  verb->add_flag("--pure", args->pure,
                 "With --type: give it to the embedding table and the output head, too");
  AddThreadsOption(*verb, &args->options.n_threads);
  verb->callback([args] { Pack(*args); });
}

}  // namespace thermocline
