// What a message of the library can point its reader to: settings of a run, and jobs that make what
// is missing. The library names them in words, because programs offer them in different ways. The
// command line writes its flags and commands behind a message (tools/reports/messages.h); a server
// may name the fields of a request.
//
// To add a setting: an enumerator, its row in kSettings, and its flag in tools/reports/messages.cc,
// which does not compile without it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>
#include <string_view>

namespace thermocline {

enum class Setting : uint8_t {
  // A run of a model.
  kContextSize,
  kBatchSize,
  kThreads,
  kPinning,
  kSequences,
  kKvHost,
  kPlacement,
  kSparseMode,
  kPredictor,
  kThresholds,
  kByColumn,
  kCacheType,
  kActivations,
  kFastTier,
  kGpuLayers,
  kGpuStream,
  kDownType,
  kOvercommit,
  kLora,
  // How tokens are chosen.
  kTemperature,
  kTopK,
  kTopP,
  kMinP,
  kRepeatPenalty,
  kRepeatLastN,
  kPresencePenalty,
  kFrequencyPenalty,
  kTypicalP,
  kTopNSigma,
  kXtcProbability,
  kXtcThreshold,
  kDynatempRange,
  kDynatempExponent,
  kDryMultiplier,
  kDryBase,
  kDryAllowedLength,
  kDryLastN,
  kMirostat,
  kMirostatTau,
  kMirostatEta,
  kMinKeep,
  kSamplers,
  kLogitBias,
  // Placing.
  kVramBudget,
  kRamBudget,
  kHotShare,
  // Texts and predictors.
  kHeldoutText,
  kPredictorRank,
  kPredictorType,
  kLookAhead,
  // Models that are written.
  kOutput,
  kWeightType,
  kShape,
  kLayers,
  kDModel,
  kDFf,
  kHeads,
  kKvHeads,
  kVocabSize,
  kMaxSeqLen,
  kGateRank,
  kActivation,
  kDensity,
  kSkew,
  // Models that are imported.
  kPretokenizer,
};
inline constexpr size_t kSettingCount = static_cast<size_t>(Setting::kPretokenizer) + 1;

struct SettingInfo {
  Setting setting;
  std::string_view name;  // as a message says it
};

// In the order of the enumerators.
inline constexpr SettingInfo kSettings[] = {
    {Setting::kContextSize, "the context size"},
    {Setting::kBatchSize, "the batch size"},
    {Setting::kThreads, "the number of threads"},
    {Setting::kPinning, "the pinning of threads"},
    {Setting::kSequences, "the number of sequences at a time"},
    {Setting::kKvHost, "the memory for pages of the KV cache outside it"},
    {Setting::kPlacement, "the placement"},
    {Setting::kSparseMode, "the mode"},
    {Setting::kPredictor, "the predictor"},
    {Setting::kThresholds, "the thresholds"},
    {Setting::kByColumn, "storing matrices by column"},
    {Setting::kCacheType, "the type of the KV cache"},
    {Setting::kActivations, "the bits of activations"},
    {Setting::kFastTier, "the fast tier"},
    {Setting::kGpuLayers, "the number of layers on the GPU"},
    {Setting::kGpuStream, "the streaming of weights to the GPU"},
    {Setting::kDownType, "the type of down projections"},
    {Setting::kOvercommit, "taking more memory than there is"},
    {Setting::kLora, "the adapters"},
    {Setting::kTemperature, "the temperature"},
    {Setting::kTopK, "top-k"},
    {Setting::kTopP, "top-p"},
    {Setting::kMinP, "min-p"},
    {Setting::kRepeatPenalty, "the repeat penalty"},
    {Setting::kRepeatLastN, "the number of recent tokens"},
    {Setting::kPresencePenalty, "the presence penalty"},
    {Setting::kFrequencyPenalty, "the frequency penalty"},
    {Setting::kTypicalP, "typical-p"},
    {Setting::kTopNSigma, "top-n-sigma"},
    {Setting::kXtcProbability, "the XTC probability"},
    {Setting::kXtcThreshold, "the XTC threshold"},
    {Setting::kDynatempRange, "the range of the dynamic temperature"},
    {Setting::kDynatempExponent, "the exponent of the dynamic temperature"},
    {Setting::kDryMultiplier, "the DRY multiplier"},
    {Setting::kDryBase, "the DRY base"},
    {Setting::kDryAllowedLength, "the length that DRY allows"},
    {Setting::kDryLastN, "the number of tokens that DRY looks at"},
    {Setting::kMirostat, "mirostat's version"},
    {Setting::kMirostatTau, "mirostat's target"},
    {Setting::kMirostatEta, "mirostat's rate"},
    {Setting::kMinKeep, "the number of tokens to keep"},
    {Setting::kSamplers, "the order of samplers"},
    {Setting::kLogitBias, "the bias of a token"},
    {Setting::kVramBudget, "the VRAM budget"},
    {Setting::kRamBudget, "the RAM budget"},
    {Setting::kHotShare, "the share of hot neurons"},
    {Setting::kHeldoutText, "the text to hold out"},
    {Setting::kPredictorRank, "the predictor's rank"},
    {Setting::kPredictorType, "the type of the predictor's factors"},
    {Setting::kLookAhead, "looking ahead"},
    {Setting::kOutput, "the output"},
    {Setting::kWeightType, "the type of the weights"},
    {Setting::kShape, "the shape"},
    {Setting::kLayers, "the number of layers"},
    {Setting::kDModel, "d_model"},
    {Setting::kDFf, "d_ff"},
    {Setting::kHeads, "the number of heads"},
    {Setting::kKvHeads, "the number of KV heads"},
    {Setting::kVocabSize, "the size of the vocabulary"},
    {Setting::kMaxSeqLen, "the longest context"},
    {Setting::kGateRank, "the rank of the gates"},
    {Setting::kActivation, "the activation"},
    {Setting::kDensity, "the density"},
    {Setting::kSkew, "the skew"},
    {Setting::kPretokenizer, "the pre-tokenizer"},
};

// Whether a table has a row for each setting, in the order of the enumerators.
template <typename Row, size_t kRows>
constexpr bool HasRowPerSetting(const Row (&rows)[kRows]) {
  for (size_t i = 0; i < kRows; ++i) {
    if (rows[i].setting != static_cast<Setting>(i)) return false;
  }
  return kRows == kSettingCount;
}
static_assert(HasRowPerSetting(kSettings), "a setting has no name");

constexpr std::string_view SettingName(Setting setting) {
  return kSettings[static_cast<size_t>(setting)].name;
}

// A setting that a message is about, and the value that the message recommends or speaks of.
struct SettingUse {
  Setting setting;
  std::string value = {};
};

// What makes files of ours, or tells of them.
enum class Job : uint8_t { kRun, kProfile, kPlace, kPredictor, kQuantize, kInspect };
inline constexpr size_t kJobCount = static_cast<size_t>(Job::kInspect) + 1;

}  // namespace thermocline
