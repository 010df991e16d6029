#include "tools/verbs/sampling_options.h"

#include <fmt/format.h>

#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <random>

#include "runtime/text/token_sets.h"
#include "tools/verbs/cli_options.h"
#include "tools/verbs/number_option.h"

namespace thermocline {
namespace {

using Real = Bounds<float>;
using Whole = Bounds<int32_t>;
constexpr auto kAnyInt = std::numeric_limits<int32_t>::max();

// "15043+1.5", "15043-1", "15043-inf".
TokenLogit ParseBias(const std::string& text) {
  const size_t sign = text.find_first_of("+-", 1);
  char* end = nullptr;
  errno = 0;
  const int64_t id = std::strtoll(text.c_str(), &end, 10);
  const bool has_id = errno == 0 && sign != std::string::npos && end == text.c_str() + sign &&
                      id >= 0 && id <= kAnyInt;
  const float bias = has_id ? std::strtof(text.c_str() + sign, &end) : 0;
  if (!has_id || *end != '\0' || end == text.c_str() + sign || std::isnan(bias) ||
      bias == HUGE_VALF) {
    throw CLI::ValidationError("--logit-bias",
                               fmt::format("expected ID+BIAS or ID-BIAS, found {}", text));
  }
  return {static_cast<int32_t>(id), bias};
}

std::vector<SamplerStep> ParseSteps(const std::string& text) {
  std::vector<SamplerStep> steps;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(';', begin), text.size());
    const std::string name = text.substr(begin, end - begin);
    const std::optional<SamplerStep> step = SamplerStepOf(name);
    if (!step) {
      throw CLI::ValidationError("--samplers", fmt::format("no sampler is called {}", name));
    }
    steps.push_back(*step);
    begin = end + 1;
  }
  return steps;
}

std::vector<SamplerStep> ParseLetters(const std::string& text) {
  std::vector<SamplerStep> steps;
  for (const char letter : text) {
    const std::optional<SamplerStep> step = SamplerStepOf(letter);
    if (!step) {
      throw CLI::ValidationError("--sampler-seq", fmt::format("no sampler has letter {}", letter));
    }
    steps.push_back(*step);
  }
  return steps;
}

std::string DefaultOrder() {
  std::string names;
  for (const SamplerStep step : DefaultSamplerSteps()) {
    names += (names.empty() ? "" : ";") + std::string(SamplerStepName(step));
  }
  return names;
}

// Adds numbers whose help ends with their default.
class Numbers {
 public:
  explicit Numbers(CLI::App& verb) : verb_(verb) {}
  template <typename T>
  void Add(const char* flags, T* value, Bounds<T> bounds, const std::string& help) {
    AddNumberOption(verb_, flags, value, bounds, fmt::format("{} (default {})", help, *value));
  }

 private:
  CLI::App& verb_;
};

void AddTruncations(Numbers numbers, SamplerOptions* s) {
  numbers.Add("--temp,--temperature", &s->temperature, Real{.least = 0},
              "Temperature; 0 always takes the likeliest token");
  numbers.Add("--top-k", &s->top_k, Whole{.least = 0},
              "Choose among the K likeliest tokens; 0: all");
  numbers.Add("--top-p", &s->top_p, Real{.least = 0, .most = 1, .above = true},
              "Choose among the likeliest with this total probability; 1: all");
  numbers.Add("--min-p", &s->min_p, Real{.least = 0, .most = 1},
              "Leave out tokens with less than this share of the likeliest one's probability; 0: "
              "none");
  numbers.Add("--typical,--typical-p", &s->typical_p, Real{.least = 0, .most = 1, .above = true},
              "Choose among those as surprising as expected, with this total probability; 1: all");
  numbers.Add("--top-n-sigma,--top-nsigma", &s->top_n_sigma, Real{},
              "Leave out tokens whose logits lie N standard deviations below the best; -1: none");
  numbers.Add("--xtc-probability", &s->xtc_probability, Real{.least = 0, .most = 1},
              "How often the best choices are excluded; 0: never");
  numbers.Add("--xtc-threshold", &s->xtc_threshold, Real{.least = 0, .most = 1},
              "What makes a choice one of the best; above 0.5: nothing");
  numbers.Add("--min-keep", &s->min_keep, Whole{.least = 0},
              "How many tokens these leave at least");
  numbers.Add("--dynatemp-range", &s->dynatemp_range, Real{.least = 0},
              "By how much the temperature moves with the entropy; 0: not");
  numbers.Add("--dynatemp-exp", &s->dynatemp_exponent, Real{.least = 0},
              "Exponent of the entropy in that");
  numbers.Add("--mirostat", &s->mirostat, Whole{.least = 0, .most = 2},
              "Keep the text's surprise near a target instead: 1 or 2, the version; 0: not");
  numbers.Add("--mirostat-ent", &s->mirostat_tau, Real{.least = 0},
              "The target, in bits per token");
  numbers.Add("--mirostat-lr", &s->mirostat_eta, Real{.least = 0, .most = 1},
              "How fast mirostat learns");
}

void AddPenalties(Numbers numbers, SamplerOptions* s) {
  numbers.Add("--repeat-penalty", &s->repeat_penalty, Real{.least = 0, .above = true},
              "Makes recent tokens less likely; 1: off");
  numbers.Add("--repeat-last-n", &s->repeat_last_n, Whole{.least = -1},
              "How many tokens are recent; 0: none, -1: all");
  numbers.Add("--presence-penalty", &s->presence_penalty, Real{},
              "Subtracted from the logits of recent tokens; 0: off");
  numbers.Add("--frequency-penalty", &s->frequency_penalty, Real{},
              "The same, for every time that they stand there; 0: off");
  numbers.Add("--dry-multiplier", &s->dry_multiplier, Real{.least = 0},
              "Don't Repeat Yourself: makes tokens less likely that would go on with a repetition; "
              "0: off");
  numbers.Add("--dry-base", &s->dry_base, Real{.least = 1},
              "By how much more with every token of it");
  numbers.Add("--dry-allowed-length", &s->dry_allowed_length, Whole{.least = 0},
              "Shorter repetitions are allowed");
  numbers.Add("--dry-penalty-last-n", &s->dry_last_n, Whole{.least = -1},
              "In how many tokens they are looked for; 0: none, -1: all");
}

}  // namespace

void AddSamplingOptions(CLI::App& verb, SamplingArgs* args) {
  AddNumberOption(verb, "-s,--seed", &args->seed, {.least = -1},
                  "Seed of the random choice; the same seed gives the same text. -1 (the "
                  "default): a random one");
  SamplerOptions* const s = &args->sampling;
  AddTruncations(Numbers(verb), s);
  AddPenalties(Numbers(verb), s);
  verb.add_option_function<std::vector<std::string>>(
          "--dry-sequence-breaker",
          [args](const std::vector<std::string>& texts) {
            args->dry_breakers =
                texts == std::vector<std::string>{"none"} ? std::vector<std::string>{} : texts;
          },
          "No repetition goes across a token with this text; may be given several times, \"none\": "
          "all do (default: line end, colon, quote, asterisk)")
      ->type_name("TEXT");
  verb.add_option_function<std::string>(
          "--samplers", [s](const std::string& text) { s->steps = ParseSteps(text); },
          fmt::format("The samplers that run, in their order, with ; between (default {})",
                      DefaultOrder()))
      ->type_name("NAMES");
  verb.add_option_function<std::string>(
          "--sampler-seq,--sampling-seq",
          [s](const std::string& text) { s->steps = ParseLetters(text); },
          "The same, by letters (default edskypmxt)")
      ->type_name("LETTERS");
  verb.add_option_function<std::vector<std::string>>(
          "-l,--logit-bias",
          [s](const std::vector<std::string>& texts) {
            for (const std::string& text : texts) s->logit_bias.push_back(ParseBias(text));
          },
          "Added to a token's logit: 15043+1, 15043-1; 15043-inf forbids it. May be given several "
          "times")
      ->type_name("ID+BIAS");
  verb.add_flag("--ignore-eos", args->ignore_end, "Never choose a token that ends the text");
}

SamplerOptions ResolveSampling(const SamplingArgs& args, const Tokenizer& tokenizer) {
  SamplerOptions options = args.sampling;
  options.seed = args.seed < 0 ? std::random_device{}() : static_cast<uint64_t>(args.seed);
  if (options.dry_multiplier > 0) options.dry_breakers = TokensWith(tokenizer, args.dry_breakers);
  if (args.ignore_end) {
    for (const int32_t id : EndTokens(tokenizer)) {
      options.logit_bias.push_back({id, -std::numeric_limits<float>::infinity()});
    }
  }
  return options;
}

}  // namespace thermocline
