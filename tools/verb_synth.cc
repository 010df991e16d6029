// thermocline synth: a model of random weights, to measure with.
#include <fmt/format.h>

#include "runtime/core/error.h"
#include "runtime/core/size_text.h"
#include "runtime/gguf/gguf_reader.h"
#include "runtime/synth.h"
#include "runtime/team.h"
#include "tools/cli_options.h"
#include "tools/progress_bar.h"
#include "tools/verbs.h"

namespace thermocline {
namespace {

constexpr const char* kDetails =
    "Writes a llama-architecture GGUF with random weights. What it generates is noise; its speed "
    "and its\n"
    "memory are those of a real model of that shape and type. The same options give the same file. "
    "The\n"
    "weights are random, so with a ReLU activation about half of the neurons fire; a model that "
    "was\n"
    "trained is sparser.\n"
    "\n"
    "Example:\n"
    "  thermocline synth --like random-1b --type Q4_0 -o random-1b-q4_0.gguf";

struct Options {
  SynthOptions synth;
  std::string like, type = "Q8_0", activation = "silu", output;
};

Activation ParseActivation(const std::string& name) {
  if (name == "relu" || name == "reglu") return Activation::kRelu;
  return name == "relu_sqr" ? Activation::kReluSqr : Activation::kSilu;
}

void Run(Options& options, const CLI::App& verb) {
  SynthOptions& synth = options.synth;
  if (!options.like.empty()) {
    const SynthOptions given = synth;
    ApplyShape(options.like, &synth);
    // A dimension given beside --like wins.
    const auto keep = [&](const char* flag, int64_t SynthOptions::*field) {
      if (verb.get_option(flag)->count() > 0) synth.*field = given.*field;
    };
    keep("--n-layers", &SynthOptions::n_layers);
    keep("--d-model", &SynthOptions::d_model);
    keep("--d-ff", &SynthOptions::d_ff);
    keep("--n-heads", &SynthOptions::n_heads);
    keep("--n-kv-heads", &SynthOptions::n_kv_heads);
    keep("--vocab-size", &SynthOptions::vocab_size);
    keep("--max-seq-len", &SynthOptions::max_seq_len);
  }
  const auto dtype = ParseWeightDType(options.type);
  if (!dtype) {
    throw Error({.what = "--type", .expected = WeightDTypeNames(), .found = options.type});
  }
  synth.dtype = *dtype;
  synth.activation = ParseActivation(options.activation);
  if (synth.n_threads == 0) synth.n_threads = DefaultThreadCount();
  synth.progress = StderrProgress();
  WriteSynthModel(options.output, synth);
  ClearStderrProgress();
  const GgufReader written(options.output);
  uint64_t weights = 0;
  for (const GgufTensorInfo& tensor : written.tensors()) weights += tensor.n_elements;
  WriteOutput(fmt::format("{}: {} layers, d_model {}, d_ff {}, {:.3f}B weights in {}, {}\n",
                          options.output, synth.n_layers, synth.d_model, synth.d_ff,
                          static_cast<double>(weights) / 1e9, DTypeName(synth.dtype),
                          FormatBytes(written.file_bytes())));
}

}  // namespace

void AddSynthVerb(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* verb =
      AddVerb(app, "synth", "Writes a model of random weights, to measure with", kDetails);
  SynthOptions& s = options->synth;
  s.n_threads = 0;
  verb->add_option("--like", options->like, "shape of a known model: " + ShapeNames());
  verb->add_option("--n-layers", s.n_layers, fmt::format("layers (default {})", s.n_layers));
  verb->add_option("--d-model", s.d_model, fmt::format("width (default {})", s.d_model));
  verb->add_option("--d-ff", s.d_ff, fmt::format("FFN neurons per layer (default {})", s.d_ff));
  verb->add_option("--n-heads", s.n_heads, fmt::format("query heads (default {})", s.n_heads));
  verb->add_option("--n-kv-heads", s.n_kv_heads,
                   fmt::format("KV heads (default {})", s.n_kv_heads));
  verb->add_option("--vocab-size", s.vocab_size,
                   fmt::format("vocabulary (default {})", s.vocab_size));
  verb->add_option("--max-seq-len", s.max_seq_len,
                   fmt::format("context in tokens (default {})", s.max_seq_len));
  verb->add_option("--type", options->type,
                   "weight type: " + WeightDTypeNames() + " (default Q8_0)");
  verb->add_option("--activation", options->activation,
                   "silu, relu, reglu or relu_sqr (default silu)")
      ->check(CLI::IsMember({"silu", "relu", "reglu", "relu_sqr"}));
  verb->add_option("--seed", s.seed, "seed of the weights (default 1)");
  AddThreadsOption(*verb, &s.n_threads);
  verb->add_option("-o,--output", options->output, "file to write")->required()->type_name("FILE");
  verb->callback([options, verb] { Run(*options, *verb); });
}

}  // namespace thermocline
