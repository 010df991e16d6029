#include "tools/serve/sampling_fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <random>

#include "runtime/core/error.h"
#include "runtime/text/token_sets.h"
#include "tools/serve/stop_strings.h"

namespace thermocline {
namespace {

constexpr double kMuch = 1e6;
constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
constexpr int64_t kMaxProbs = 1024;
constexpr int64_t kMaxContinuations = 64;
constexpr size_t kMaxBiases = 4096;
constexpr size_t kMaxBreakers = 64;

void TakeNumber(const Fields& fields, const char* name, double least, double most, float* value) {
  if (const auto number = fields.Number(name, least, most)) *value = static_cast<float>(*number);
}

void TakeWhole(const Fields& fields, const char* name, int64_t least, int64_t most,
               int32_t* value) {
  if (const auto number = fields.Integer(name, least, most)) *value = static_cast<int32_t>(*number);
}

void TakeFlag(const Fields& fields, const char* name, bool* value) {
  if (const auto flag = fields.Bool(name)) *value = *flag;
}

void ReadFilters(const Fields& fields, SamplerOptions* s) {
  TakeNumber(fields, "temperature", 0, kMuch, &s->temperature);
  // 0 and below: off.
  if (const auto k = fields.Integer("top_k", -1, kMost)) {
    s->top_k = static_cast<int32_t>(std::max<int64_t>(0, *k));
  }
  TakeNumber(fields, "top_p", 0, 1, &s->top_p);
  if (s->top_p <= 0) s->top_p = std::numeric_limits<float>::min();  // the likeliest alone
  TakeNumber(fields, "min_p", 0, 1, &s->min_p);
  TakeNumber(fields, "typical_p", 0, 1, &s->typical_p);
  TakeNumber(fields, "top_n_sigma", -1, kMuch, &s->top_n_sigma);
  TakeNumber(fields, "xtc_probability", 0, 1, &s->xtc_probability);
  TakeNumber(fields, "xtc_threshold", 0, 1, &s->xtc_threshold);
  TakeNumber(fields, "dynatemp_range", 0, kMuch, &s->dynatemp_range);
  TakeNumber(fields, "dynatemp_exponent", 0, kMuch, &s->dynatemp_exponent);
  TakeWhole(fields, "mirostat", 0, 2, &s->mirostat);
  TakeNumber(fields, "mirostat_tau", 0, kMuch, &s->mirostat_tau);
  TakeNumber(fields, "mirostat_eta", 0, kMuch, &s->mirostat_eta);
  TakeWhole(fields, "min_keep", 0, kMost, &s->min_keep);
  // A sampler of other servers that is not here: only its "off" can be honoured.
  (void)fields.Number("adaptive_target", -kMuch, 0);
}

void ReadPenalties(const Fields& fields, const Tokenizer& tokenizer, SamplerOptions* s) {
  TakeWhole(fields, "repeat_last_n", -1, kMost, &s->repeat_last_n);
  TakeNumber(fields, "repeat_penalty", 1e-6, kMuch, &s->repeat_penalty);
  TakeNumber(fields, "presence_penalty", -kMuch, kMuch, &s->presence_penalty);
  TakeNumber(fields, "frequency_penalty", -kMuch, kMuch, &s->frequency_penalty);
  TakeNumber(fields, "dry_multiplier", 0, kMuch, &s->dry_multiplier);
  TakeNumber(fields, "dry_base", 0, kMuch, &s->dry_base);
  TakeWhole(fields, "dry_allowed_length", 0, kMost, &s->dry_allowed_length);
  TakeWhole(fields, "dry_penalty_last_n", -1, kMost, &s->dry_last_n);
  if (fields.Has("dry_sequence_breakers")) {
    s->dry_breakers = TokensWith(tokenizer, fields.Texts("dry_sequence_breakers", kMaxBreakers));
  }
}

// "temperature" beside "top_k", or a text of letters.
void ReadSteps(const Fields& fields, SamplerOptions* s) {
  const ApiJson* found = fields.Find("samplers");
  if (found == nullptr) return;
  std::vector<SamplerStep> steps;
  const auto add = [&](std::optional<SamplerStep> step) {
    if (!step) FailField("samplers", "names of samplers, or a text of their letters", found);
    if (std::find(steps.begin(), steps.end(), *step) == steps.end()) steps.push_back(*step);
  };
  if (found->is_string()) {
    for (const char letter : found->get<std::string>()) add(SamplerStepOf(letter));
  } else {
    for (const std::string& name : fields.Texts("samplers", kMaxBreakers)) {
      add(SamplerStepOf(std::string_view(name)));
    }
  }
  s->steps = std::move(steps);
}

// ---- biases ----

class Biases {
 public:
  Biases(const Tokenizer& tokenizer, std::vector<TokenLogit>* biases)
      : tokenizer_(tokenizer), biases_(biases) {}

  // {"15": -100, " word": 5}, or [[15, -100], [" word", false]].
  void Read(const ApiJson& json) {
    if (json.size() > kMaxBiases || !json.is_structured()) Fail(json);
    if (json.is_object()) {
      for (const auto& [key, value] : json.items()) AddNamed(key, value);
      return;
    }
    for (const ApiJson& pair : json) {
      if (!pair.is_array() || pair.size() != 2) Fail(pair);
      if (pair[0].is_number_integer()) {
        AddId(pair[0].get<int64_t>(), pair[1]);
      } else if (pair[0].is_string()) {
        AddText(pair[0].get<std::string>(), pair[1]);
      } else {
        Fail(pair);
      }
    }
  }

 private:
  [[noreturn]] static void Fail(const ApiJson& found) {
    FailField("logit_bias",
              fmt::format("at most {} biases, {{\"15\": -100}} or [[15, -100]], of token ids or "
                          "texts; false forbids",
                          kMaxBiases),
              &found);
  }
  static float BiasOf(const ApiJson& json) {
    if (json.is_boolean() && !json.get<bool>()) return -std::numeric_limits<float>::infinity();
    if (!json.is_number()) Fail(json);
    const auto bias = json.get<double>();
    if (!(std::abs(bias) <= kMuch)) Fail(json);
    return static_cast<float>(bias);
  }
  void AddNamed(const std::string& key, const ApiJson& bias) {
    int64_t id = 0;
    const char* const end = key.data() + key.size();
    const auto parsed = std::from_chars(key.data(), end, id);
    if (parsed.ec == std::errc() && parsed.ptr == end) return AddId(id, bias);
    AddText(key, bias);
  }
  // An id of another model's vocabulary is nothing to fail for: clients send the same biases to
  // all.
  void AddId(int64_t id, const ApiJson& bias) {
    const float value = BiasOf(bias);
    if (id < 0 || id >= tokenizer_.vocab_size()) return;
    biases_->push_back({static_cast<int32_t>(id), value});
  }
  void AddText(const std::string& text, const ApiJson& bias) {
    const float value = BiasOf(bias);
    for (const int32_t id : tokenizer_.Encode(text)) {
      if (biases_->size() > kMaxBiases) Fail(bias);
      biases_->push_back({id, value});
    }
  }

  const Tokenizer& tokenizer_;
  std::vector<TokenLogit>* biases_;
};

void ReadBiases(const Fields& fields, const Tokenizer& tokenizer, GenerationSpec* spec) {
  if (const ApiJson* json = fields.Find("logit_bias")) {
    Biases(tokenizer, &spec->sampler.logit_bias).Read(*json);
  }
  TakeFlag(fields, "ignore_eos", &spec->ignore_eos);
  if (!spec->ignore_eos) return;
  for (const int32_t id : EndTokens(tokenizer)) {
    spec->sampler.logit_bias.push_back({id, -std::numeric_limits<float>::infinity()});
  }
}

void ReadSeed(const Fields& fields, const RequestDefaults& defaults, GenerationSpec* spec) {
  // Seeds of 32 bits come signed and unsigned.
  const int64_t seed =
      fields
          .Integer("seed", std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max())
          .value_or(defaults.seed);
  constexpr int64_t kRandom = 0xFFFFFFFF;  // -1 in 32 bits
  spec->has_seed = seed >= 0 && seed != kRandom;
  spec->sampler.seed = spec->has_seed ? static_cast<uint64_t>(seed) : std::random_device{}();
}

void ReadAnswerFields(const Fields& fields, GenerationSpec* spec) {
  TakeFlag(fields, "stream", &spec->stream);
  if (const ApiJson* options = fields.Object("stream_options")) {
    TakeFlag(Fields(*options, "stream_options"), "include_usage", &spec->include_usage);
  }
  TakeFlag(fields, "cache_prompt", &spec->cache_prompt);
  TakeFlag(fields, "return_tokens", &spec->return_tokens);
  TakeFlag(fields, "return_progress", &spec->return_progress);
  TakeFlag(fields, "timings_per_token", &spec->timings_per_token);
  TakeFlag(fields, "verbose", &spec->verbose);
  TakeFlag(fields, "post_sampling_probs", &spec->after_sampling);
  TakeWhole(fields, "id_slot", -1, kMost, &spec->slot);
  TakeWhole(fields, "n", 1, kMaxContinuations, &spec->n);
  if (const auto n = fields.Integer("n_keep", -1, kMost)) spec->n_keep = *n;
  if (const auto n = fields.Integer("n_probs", 0, kMaxProbs)) {
    spec->n_probs = *n;
    spec->wants_probs = *n > 0;
  }
}

}  // namespace

void ReadGenerationFields(const Fields& fields, const RequestDefaults& defaults,
                          const Tokenizer& tokenizer, GenerationSpec* spec) {
  spec->sampler = defaults.sampler;
  spec->verbose = defaults.verbose;
  spec->ignore_eos = defaults.ignore_eos;
  ReadFilters(fields, &spec->sampler);
  ReadPenalties(fields, tokenizer, &spec->sampler);
  ReadSteps(fields, &spec->sampler);
  ReadSeed(fields, defaults, spec);
  ReadBiases(fields, tokenizer, spec);
  ReadAnswerFields(fields, spec);
  try {
    Validate(spec->sampler);
  } catch (const Error& error) {
    throw ApiError(ApiErrorKind::kInvalidRequest, error.what());
  }
}

void ReadTokenLimit(const Fields& fields, std::initializer_list<const char*> names,
                    const RequestDefaults& defaults, GenerationSpec* spec) {
  int64_t wanted = defaults.n_predict;
  for (const char* name : names) {
    if (const auto n = fields.Integer(name, -2, kMost)) {
      wanted = std::max<int64_t>(-1, *n);
      break;
    }
  }
  spec->max_tokens = wanted;
}

void SetStopStrings(std::vector<std::string> strings, const std::string& path,
                    GenerationSpec* spec) {
  std::erase_if(strings, [](const std::string& text) { return text.empty(); });
  for (const std::string& text : strings) {
    if (text.size() > StopStrings::kMaxBytes) {
      const ApiJson found = text;
      FailField(path, fmt::format("texts of at most {} bytes", StopStrings::kMaxBytes), &found);
    }
  }
  spec->stop = std::move(strings);
}

}  // namespace thermocline
