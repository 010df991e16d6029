#include "tools/reports/messages.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <iterator>
#include <vector>

namespace thermocline {
namespace {

struct FlagRow {
  Setting setting;
  std::string_view flag;
  // The verb in which the flag is another one, and that.
  std::string_view other_verb = {};
  std::string_view other_flag = {};
};

// In the order of the enumerators.
constexpr FlagRow kFlags[] = {
    {Setting::kContextSize, "-c"},
    {Setting::kBatchSize, "-b"},
    {Setting::kThreads, "-t"},
    {Setting::kPinning, "--pin"},
    {Setting::kSequences, "--parallel"},
    {Setting::kKvHost, "--kv-host"},
    {Setting::kPlacement, "--placement"},
    {Setting::kSparseMode, "--sparse"},
    {Setting::kPredictor, "--predictor"},
    {Setting::kThresholds, "--thresholds"},
    {Setting::kByColumn, "--columns"},
    {Setting::kCacheType, "--cache-type"},
    {Setting::kActivations, "--activations"},
    {Setting::kFastTier, "--fast-tier"},
    {Setting::kGpuLayers, "-ngl"},
    {Setting::kGpuStream, "--gpu-stream"},
    {Setting::kDownType, "--down-type"},
    {Setting::kOvercommit, "--overcommit"},
    {Setting::kLora, "--lora"},
    {Setting::kTemperature, "--temp"},
    {Setting::kTopK, "--top-k"},
    {Setting::kTopP, "--top-p"},
    {Setting::kMinP, "--min-p"},
    {Setting::kRepeatPenalty, "--repeat-penalty"},
    {Setting::kRepeatLastN, "--repeat-last-n"},
    {Setting::kPresencePenalty, "--presence-penalty"},
    {Setting::kFrequencyPenalty, "--frequency-penalty"},
    {Setting::kTypicalP, "--typical"},
    {Setting::kTopNSigma, "--top-n-sigma"},
    {Setting::kXtcProbability, "--xtc-probability"},
    {Setting::kXtcThreshold, "--xtc-threshold"},
    {Setting::kDynatempRange, "--dynatemp-range"},
    {Setting::kDynatempExponent, "--dynatemp-exp"},
    {Setting::kDryMultiplier, "--dry-multiplier"},
    {Setting::kDryBase, "--dry-base"},
    {Setting::kDryAllowedLength, "--dry-allowed-length"},
    {Setting::kDryLastN, "--dry-penalty-last-n"},
    {Setting::kMirostat, "--mirostat"},
    {Setting::kMirostatTau, "--mirostat-ent"},
    {Setting::kMirostatEta, "--mirostat-lr"},
    {Setting::kMinKeep, "--min-keep"},
    {Setting::kSamplers, "--samplers"},
    {Setting::kLogitBias, "--logit-bias"},
    {Setting::kVramBudget, "--vram"},
    {Setting::kRamBudget, "--ram"},
    {Setting::kHotShare, "--hot"},
    {Setting::kHeldoutText, "--heldout"},
    {Setting::kPredictorRank, "--rank"},
    {Setting::kPredictorType, "--type", "synth", "--predictor-type"},
    {Setting::kLookAhead, "--look-ahead"},
    {Setting::kOutput, "-o"},
    {Setting::kWeightType, "--type"},
    {Setting::kShape, "--like"},
    {Setting::kLayers, "--n-layers"},
    {Setting::kDModel, "--d-model"},
    {Setting::kDFf, "--d-ff"},
    {Setting::kHeads, "--n-heads"},
    {Setting::kKvHeads, "--n-kv-heads"},
    {Setting::kVocabSize, "--vocab-size"},
    {Setting::kMaxSeqLen, "--max-seq-len"},
    {Setting::kGateRank, "--gate-rank"},
    {Setting::kActivation, "--activation"},
    {Setting::kDensity, "--density"},
    {Setting::kSkew, "--skew"},
    {Setting::kPretokenizer, "--pre"},
};
static_assert(HasRowPerSetting(kFlags), "a setting has no flag");

// In the order of the enumerators.
constexpr std::string_view kJobVerbs[] = {"run",       "profile",  "place",
                                          "predictor", "quantize", "inspect"};
static_assert(std::size(kJobVerbs) == kJobCount, "a job has no verb");

// " (`thermocline place`, --ram, --cache-type f16)", or "".
std::string Pointers(const std::vector<SettingUse>& settings, const std::vector<Job>& jobs,
                     std::string_view verb) {
  std::vector<std::string> all;
  for (const Job job : jobs) all.push_back(fmt::format("`thermocline {}`", VerbOf(job)));
  for (const SettingUse& use : settings) {
    const std::string_view flag = FlagOf(use.setting, verb);
    all.push_back(use.value.empty() ? std::string(flag) : fmt::format("{} {}", flag, use.value));
  }
  return all.empty() ? "" : fmt::format(" ({})", fmt::join(all, ", "));
}

}  // namespace

std::string_view FlagOf(Setting setting, std::string_view verb) {
  const FlagRow& row = kFlags[static_cast<size_t>(setting)];
  return !verb.empty() && verb == row.other_verb ? row.other_flag : row.flag;
}

std::string_view VerbOf(Job job) { return kJobVerbs[static_cast<size_t>(job)]; }

std::string ErrorText(const Error& error, std::string_view verb) {
  return error.what() + Pointers(error.info().settings, error.info().jobs, verb);
}

std::string NoteText(const Note& note, std::string_view verb) {
  return note.text + Pointers(note.settings, note.jobs, verb);
}

std::string SlowTierNote(double bytes_per_s) {
  return fmt::format(
      "the slow tier is held to {:.3g} GB/s (--slow-tier-limit): times are those of a rehearsal",
      bytes_per_s / 1e9);
}

}  // namespace thermocline
