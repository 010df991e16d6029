#include <fmt/format.h>

#include <memory>
#include <string>

#include "runtime/core/error.h"
#include "runtime/import/import_model.h"
#include "runtime/lora/write_lora.h"
#include "runtime/model/families.h"
#include "runtime/threads/processors.h"
#include "tools/reports/change_table.h"
#include "tools/reports/messages.h"
#include "tools/terminal/progress_bar.h"
#include "tools/verbs/cli_options.h"
#include "tools/verbs/verbs.h"

namespace thermocline {
namespace {

constexpr const char* kConvertDetails =
    R"(DIR is a model as Hugging Face has them: config.json; model.safetensors, or model.safetensors.index.json
and the files that it names; tokenizer.model or tokenizer.json, tokenizer_config.json, generation_config.json
and chat_template.jinja where they are there. OUT is one GGUF file; it appears only when it is complete.

TYPE is one that `quantize` knows (F16, Q8_0, Q4_K_M, ...; `thermocline quantize --help` lists them). Without
it every matrix keeps its type, and 8-bit floats with scales become BF16. Norms and biases become F32. The
table on stdout says for each tensor what it was, what it is, and the error of the rounding.

Keys and tensors get the names that llama.cpp's converter gives them, so that other programs read OUT, too.
A model of another family is an error, and so is whatever of a model cannot be put into OUT as it is.
--dry-run reads everything but the weights and shows the table.

With --base, DIR is a LoRA adapter as PEFT saves it (adapter_config.json and adapter_model.safetensors),
of the model in the GGUF file BASE; OUT is the adapter as llama.cpp has them, in F32.

Examples:
  thermocline convert ~/models/Llama-3.2-1B-Instruct llama-3.2-1b-q8_0.gguf Q8_0
  thermocline convert Mistral-7B-v0.1 mistral-7b.gguf --dry-run
  thermocline convert my-adapter my-adapter.gguf --base mistral-7b.gguf)";

struct ConvertArgs {
  std::string directory;
  std::string output;
  std::string type;
  std::string base;  // of an adapter; "": a model is converted
  bool pure = false;
  bool dry_run = false;
  ImportOptions options;
};

void PrintReport(const ImportReport& report) {
  PrintNote(fmt::format("model: {}; vocabulary: {}\n", report.architecture,
                        report.vocabulary.empty() ? "none" : report.vocabulary));
  for (const Note& note : report.notes) {
    PrintNote(fmt::format("note: {}\n", NoteText(note, "convert")));
  }
  WriteOutput(ChangeTable(report.changes));
}

void ConvertAdapter(const ConvertArgs& args) {
  const GgufReader gguf = OpenModelFile(args.base);
  const Family& family = FindFamily(gguf);
  const ModelConfig config = ReadModelConfig(gguf, family);
  const LoraFile lora(args.directory, 1, config, family);
  if (!args.dry_run) WriteLora(lora, config, family, args.output);
  PrintNote(fmt::format("adapter of {}: {} matrices, ranks up to {}\n", config.architecture,
                        lora.n_matrices(), lora.max_rank()));
  if (!args.dry_run) PrintNote(fmt::format("written: {}\n", Printable(args.output, 400)));
}

void Convert(ConvertArgs& args) {
  if (!args.base.empty()) {
    if (!args.type.empty()) FailUsage("convert", "--base goes with no TYPE: adapters stay F32");
    return ConvertAdapter(args);
  }
  if (!args.type.empty()) {
    args.options.rule = ParseTypeArgument("convert", args.type);
    args.options.rule->pure = args.pure;
  }
  if (args.options.n_threads == 0) args.options.n_threads = DefaultThreadCount();
  args.options.progress = StderrProgress();
  if (args.dry_run) {
    PrintReport(PlanImport(args.directory, args.options));
    return;
  }
  PrintReport(ImportModel(args.directory, args.output, args.options));
  PrintNote(fmt::format("written: {}\n", Printable(args.output, 400)));
}

}  // namespace

void AddConvertVerb(CLI::App& app) {
  const auto args = std::make_shared<ConvertArgs>();
  CLI::App* verb = AddVerb(app, "convert", "Makes a GGUF of a Hugging Face model", kConvertDetails);
  verb->add_option("input,-m,--model", args->directory, "Directory of the model")
      ->required()
      ->type_name("DIR");
  verb->add_option("output,-o,--output", args->output, "GGUF file to write")
      ->required()
      ->type_name("OUT");
  verb->add_option("type,--type", args->type, "Type of the weights, or a mix; as they are")
      ->type_name("TYPE");
  verb->add_option("--base", args->base, "The model, a GGUF, of an adapter in DIR")
      ->type_name("BASE");
  verb->add_flag("--pure", args->pure, "Give the embedding table and the output head TYPE, too");
  verb->add_option("--name", args->options.name, "The model's name in OUT; that of DIR")
      ->type_name("NAME");
  verb->add_option(
          "--pre", args->options.pretokenizer,
          "How the tokenizer cuts texts into words, where it is not recognised: llama-bpe, "
          "qwen2, ...")
      ->type_name("NAME");
  verb->add_flag("--dry-run", args->dry_run, "Show what would be written, and write nothing");
  AddThreadsOption(*verb, &args->options.n_threads);
  verb->callback([args] { Convert(*args); });
}

}  // namespace thermocline
