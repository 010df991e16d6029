#include <fmt/format.h>

#include <memory>
#include <string>

#include "profiler/activations/input_importance.h"
#include "runtime/convert/quantize_model.h"
#include "runtime/core/error.h"
#include "runtime/threads/processors.h"
#include "tools/reports/change_table.h"
#include "tools/terminal/progress_bar.h"
#include "tools/verbs/cli_options.h"
#include "tools/verbs/output_path.h"
#include "tools/verbs/verbs.h"

namespace thermocline {
namespace {

// Returns a line for each type that can be written: its name and what it keeps of a weight.
std::string TypeLines() {
  std::string lines;
  for (const WeightTypeInfo& info : kWeightTypes) {
    if (info.written) lines += fmt::format("  {:<7} {}\n", info.stored.name, info.about);
  }
  return lines + "or a mix, named as in the files that people share:\n" + TypeMixLines();
}

constexpr const char* kQuantizeDetails =
    R"(Matrices get the type; norms and biases stay as they are. In a model of fewer than 8 bits the embedding
table and the output head become Q8_0 or Q6_K, because errors there reach the choice of the next word
undamped. --pure makes them TYPE too; of a mix it leaves the first type alone.
Blocks of some types hold 256 weights of a row, those of the others 32. Matrices whose rows are no multiple
of that get the nearest type that fits (Q5_0 for Q4_K, Q8_0 for Q6_K, ...; F16 where none does), and the
report says so.

IN is a GGUF file of any type that `run` reads, or any file of a split set; a packed model works too. OUT is
one file; it appears only when it is complete. The table on stdout says for each tensor what it was, what it
is, and the error: the root mean square of the change over that of the weights, and the largest change.

Start from the F16 or BF16 file of a model: quantising what is quantised adds up both errors.

With --importance the error of each weight counts by the mean square of the input that it meets, which
`profile` found on a text. The embedding table and the output head are rounded as without. The table shows
the error of the weights all the same; it grows a little, and that of what the matrices put out falls.

Examples:
  thermocline quantize model-f16.gguf model-q4_k_m.gguf Q4_K_M
  thermocline profile -m model-f16.gguf -f corpus.txt -o model.profile.gguf
  thermocline quantize model-f16.gguf model-q4_k_m.gguf Q4_K_M --importance model.profile.gguf)";

struct QuantizeArgs {
  std::string input;
  std::string output;
  std::string type;
  std::string importance_path;
  QuantizeOptions options;
};

void Quantize(QuantizeArgs& args) {
  const bool pure = args.options.rule.pure;
  args.options.rule = ParseTypeArgument("quantize", args.type);
  args.options.rule.pure = pure;
  if (args.options.n_threads == 0) args.options.n_threads = DefaultThreadCount();
  args.options.progress = StderrProgress();
  if (!args.importance_path.empty()) {
    CheckNotRead(args.output, {args.importance_path});
    args.options.importance = ReadImportance(args.importance_path, args.input);
  }
  const std::vector<TensorChange> changes = QuantizeModel(args.input, args.output, args.options);
  WriteOutput(ChangeTable(changes));
  PrintNote(fmt::format("written: {}\n", Printable(args.output, 400)));
}

}  // namespace

void AddQuantizeVerb(CLI::App& app) {
  const auto args = std::make_shared<QuantizeArgs>();
  CLI::App* verb = AddVerb(app, "quantize", "Writes a model in another type of weights",
                           "TYPE is one of\n" + TypeLines() + kQuantizeDetails);
  verb->add_option("input,-m,--model", args->input, "GGUF model to read")
      ->required()
      ->type_name("IN");
  verb->add_option("output,-o,--output", args->output, "GGUF file to write")
      ->required()
      ->type_name("OUT");
  verb->add_option("type,--type", args->type, "Type of the weights, or a mix")
      ->required()
      ->type_name("TYPE");
  verb->add_flag("--pure", args->options.rule.pure,
                 "Give the embedding table and the output head TYPE, too");
  verb->add_option("--importance", args->importance_path,
                   "Profile of IN, made by `profile`: weights that meet larger inputs are rounded "
                   "with less error. Q8_0 and floats round as ever")
      ->type_name("FILE");
  AddThreadsOption(*verb, &args->options.n_threads);
  verb->callback([args] { Quantize(*args); });
}

}  // namespace thermocline
