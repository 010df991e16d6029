#include "tools/verbs/draft_options.h"

#include <fmt/format.h>

#include "runtime/device/ops.h"
#include "tools/verbs/cli_options.h"
#include "tools/verbs/number_option.h"

namespace thermocline {
namespace {

constexpr int64_t kMostDraftTokens = 64;
constexpr int64_t kMostDraftWidth = 8;

constexpr std::string_view kHotPrefix = "hot:";

DraftKind KindOf(const std::string& verb, const DraftArgs& args) {
  const bool has_model = !args.options.model_path.empty();
  if (args.kind.starts_with(kHotPrefix)) {
    if (args.kind.size() == kHotPrefix.size()) FailUsage(verb, "--draft hot:FILE names no file");
    // With the other sources that were asked for.
    return args.speculate || has_model ? DraftKind::kAuto : DraftKind::kHot;
  }
  if (args.kind == "hot") {
    FailUsage(verb, "--draft hot needs a draft of the model: hot:FILE, made by profile --draft");
  }
  if (args.kind == "none") {
    if (args.speculate || has_model) {
      FailUsage(verb, "--draft none goes with neither --speculate nor --draft-model");
    }
    return DraftKind::kNone;
  }
  if (args.kind == "ngram") {
    if (has_model) FailUsage(verb, "--draft ngram uses no model; give --draft auto for both");
    return DraftKind::kNgram;
  }
  if (args.kind == "model") {
    if (!has_model) FailUsage(verb, "--draft model needs --draft-model FILE");
    return DraftKind::kModel;
  }
  if (args.kind == "auto" || args.speculate) return DraftKind::kAuto;
  return has_model ? DraftKind::kModel : DraftKind::kNone;
}

}  // namespace

void AddDraftOptions(CLI::App& verb, DraftArgs* args, int64_t width) {
  verb.add_flag("--speculate", args->speculate,
                "Draft tokens cheaply and verify several in one pass; the text has the same "
                "distribution (the same as --draft auto)");
  verb.add_option(
          "--draft", args->kind,
          "Where drafts come from: ngram (the text itself, where it repeats), model "
          "(--draft-model), hot:FILE (the model's hot neurons and what FILE, made by "
          "profile --draft, has in place of the others; with --speculate the other sources, "
          "too), auto (of all that there are what brings most), none")
      ->type_name("ngram|model|hot:FILE|auto|none")
      ->check([](const std::string& kind) {
        const bool known = kind.starts_with("hot") || kind == "ngram" || kind == "model" ||
                           kind == "auto" || kind == "none";
        return known ? std::string()
                     : "'" + kind + "' is none of ngram, model, hot:FILE, auto, none";
      });
  verb.add_option("--draft-model", args->options.model_path,
                  "Also written -md. A small model of the same vocabulary, which drafts")
      ->type_name("FILE");
  verb.add_option(
          "--draft-extend",
          [args](const CLI::results_t& given) {
            args->options.extend = given.front() == "ngram";
            return true;
          },
          "What goes on behind a model's drafts for nothing: ngram (what followed earlier in the "
          "text, the default) or none")
      ->type_name("ngram|none")
      ->check(CLI::IsMember({"ngram", "none"}));
  SpeculateOptions& speculate = args->options.speculate;
  // With what is written behind the last token that is as many rows as have the bits of each alone.
  speculate.max_tokens = kFewTokens - 1;
  AddNumberOption(verb, "--draft-max", &speculate.max_tokens,
                  {.least = 1, .most = kMostDraftTokens},
                  fmt::format("Most tokens of a draft (default {}: the text is plain decoding's to "
                              "the bit; more may part from it where two tokens nearly tie)",
                              speculate.max_tokens));
  speculate.max_children = width;
  AddNumberOption(verb, "--draft-width", &speculate.max_children,
                  {.least = 1, .most = kMostDraftWidth},
                  fmt::format("Most drafted tokens that may follow the same one, so that the best "
                              "few are verified in one pass where the draft is unsure; 1: a draft "
                              "is a chain (default {})",
                              width));
  AddNumberOption(verb, "--draft-p-min", &speculate.least_chance, {.least = 0, .most = 1},
                  "A draft ends before a token that is less likely to be accepted, whatever it "
                  "would cost (default 0)");
}

void SettleDraft(const std::string& verb, DraftArgs* args, EngineOptions* engine) {
  args->options.kind = KindOf(verb, *args);
  args->options.hot = args->kind.starts_with(kHotPrefix);
  if (args->options.hot) engine->draft_path = args->kind.substr(kHotPrefix.size());
  engine->drafted_rows = DraftedRows(args->options, engine->n_sequences);
}

}  // namespace thermocline
