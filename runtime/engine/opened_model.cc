#include "runtime/engine/opened_model.h"

#include <fmt/format.h>

#include <algorithm>

#include "gpu_kernels/base/gpu_support.h"
#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"
#include "runtime/device/cpu/cpu_device.h"
#include "runtime/load/model_cuts.h"

namespace thermocline {
namespace {

constexpr const char* kOneTierName = "dram";
constexpr const char* kFastName = "vram (a second CPU device stands in)";
constexpr const char* kSlowName = "dram";

// The GPU that is to be the fast tier, or "" for none. One that was asked for must not be silently
// replaced; the emulation of one is for tests and must be asked for.
std::string ChooseGpu(FastTier wanted) {
  if (wanted == FastTier::kCpu) return "";
  const GpuSupport gpu = QueryGpuSupport();
  if (wanted == FastTier::kGpu && !gpu.available) {
    throw Error({.what = "a GPU was asked for and cannot be used: " + gpu.reason,
                 .hint = "ask for none, to run on the CPU",
                 .settings = {{Setting::kFastTier}, {Setting::kGpuLayers}}});
  }
  return gpu.available && (wanted == FastTier::kGpu || !gpu.emulated) ? gpu.device : "";
}

int64_t ContextTokens(const EngineOptions& options, const ModelConfig& config) {
  if (options.context_tokens == 0) return std::min(config.max_seq_len, kDefaultContext);
  if (options.context_tokens < 1 || options.context_tokens > config.max_seq_len) {
    throw Error(
        {.path = options.model_path,
         .what = std::string(SettingName(Setting::kContextSize)),
         .expected = fmt::format("1 to {}, the context the model was made for", config.max_seq_len),
         .found = std::to_string(options.context_tokens),
         .settings = {{Setting::kContextSize}}});
  }
  return options.context_tokens;
}

std::optional<ThresholdChoice> ChoiceOf(const EngineOptions& options, const ModelConfig& config) {
  return ParseThresholdChoice(options.sparse, config.has_true_zeros(),
                              ActivationName(config.activation));
}

SparseMode ModeOf(const EngineOptions& options, const ModelConfig& config,
                  const std::optional<ThresholdChoice>& choice) {
  const bool zeros = config.has_true_zeros();
  const std::string_view activation = ActivationName(config.activation);
  const bool predicted_ffn = choice && choice->ffn_mode == SparseMode::kPredicted;
  if (choice && (options.predictor.empty() || predicted_ffn)) {
    if (!predicted_ffn || !config.cuts_gates()) return SparseMode::kThreshold;
  }
  const bool wanted = !options.predictor.empty() || options.sparse == "predicted" || predicted_ffn;
  if (wanted && config.cuts_gates()) {
    throw Error({.path = options.model_path,
                 .what = "gates of this model are cut by what all of a token's gates are, which a "
                         "predictor leaves out",
                 .expected = "auto, dense or exact",
                 .found = "predicted",
                 .settings = {{Setting::kSparseMode, "exact"}, {Setting::kPredictor}}});
  }
  if (options.predictor.empty()) return ResolveSparseMode(options.sparse, zeros, activation);
  if (options.sparse != "auto" && options.sparse != "predicted") {
    throw Error({.what = "a predictor is used in mode predicted only",
                 .expected = "predicted",
                 .found = options.sparse,
                 .hint = "name no mode, or no predictor",
                 .settings = {{Setting::kSparseMode}, {Setting::kPredictor}}});
  }
  return ResolveSparseMode("predicted", zeros, activation);
}

void CheckSequences(const ContextOptions& options) {
  if (options.n_sequences >= 1) return;
  throw Error({.what = std::string(SettingName(Setting::kSequences)),
               .expected = "1 or more",
               .found = std::to_string(options.n_sequences),
               .settings = {{Setting::kSequences}}});
}

void CheckKvTokens(const ContextOptions& options, int64_t context_tokens) {
  if (options.kv_tokens == 0 || options.kv_tokens >= context_tokens) return;
  throw Error({.what = "the tokens that the KV cache has room for",
               .expected = fmt::format("at least a context, {}", context_tokens),
               .found = std::to_string(options.kv_tokens),
               .settings = {{Setting::kContextSize}}});
}

void CheckDownType(const EngineOptions& options, const ModelConfig& config) {
  if (!options.down_type) return;
  const WeightTypeInfo& info = GetWeightTypeInfo(*options.down_type);
  if (!info.written) {
    throw Error({.what = std::string(SettingName(Setting::kDownType)),
                 .expected = WrittenDTypeNames(),
                 .found = fmt::format("{}, which is read and not written", info.stored.name),
                 .settings = {{Setting::kDownType}}});
  }
  if (config.d_model % info.stored.block_elems == 0) return;
  throw Error(
      {.path = options.model_path,
       .what = fmt::format("down projections cannot be stored per neuron in {}", info.stored.name),
       .expected = fmt::format("d_model a multiple of {}", info.stored.block_elems),
       .found = std::to_string(config.d_model),
       .hint = "choose a type of smaller blocks",
       .settings = {{Setting::kDownType,
                     std::string(DTypeName(FittingType(*options.down_type, config.d_model)))}}});
}

// Whether a layer's neurons can be computed in pieces.
bool StreamsNeurons(const ModelConfig& config) {
  return std::ranges::none_of(config.layers, &FfnConfig::keeps_together, &LayerConfig::ffn);
}

// Streaming was asked for: it must not be left out silently.
void CheckGpuStream(const EngineOptions& options, const ModelConfig& config, const std::string& gpu,
                    bool by_column) {
  if (options.gpu_stream != StreamCold::kOn) return;
  if (by_column) {
    throw Error({.path = options.model_path,
                 .what = "neurons whose gates and ups lie by column are not streamed to the GPU",
                 .expected = "auto or off",
                 .found = "on",
                 .settings = {{Setting::kGpuStream, "auto"}}});
  }
  if (!options.loras.empty()) {
    throw Error({.path = options.loras.front().path,
                 .what = "adapters of neurons that lie on the CPU are computed there, so that "
                         "weights are not streamed to the GPU",
                 .expected = "auto or off",
                 .found = "on",
                 .settings = {{Setting::kGpuStream, "auto"}, {Setting::kLora}}});
  }
  if (!StreamsNeurons(config)) {
    throw Error({.path = options.model_path,
                 .what = "what this model makes of all neurons of a layer cannot be made of the "
                         "pieces in which weights are streamed to the GPU",
                 .expected = "auto or off",
                 .found = "on",
                 .settings = {{Setting::kGpuStream, "auto"}}});
  }
  if (!gpu.empty()) return;
  throw Error({.what = "weights are to be streamed to a GPU, and the fast tier is none",
               .expected = "a GPU",
               .hint = "make the GPU the fast tier, or ask for no streaming",
               .settings = {{Setting::kFastTier, "gpu"}, {Setting::kGpuStream}}});
}

std::optional<ModelPredictor> OpenPredictor(const EngineOptions& options, SparseMode mode,
                                            const std::optional<ThresholdChoice>& choice,
                                            const GgufReader& gguf, const ModelConfig& config) {
  const SparseMode of_ffn = choice ? choice->ffn_mode : mode;
  if (of_ffn != SparseMode::kPredicted) return std::nullopt;
  return ModelPredictor(options.predictor, options.predictor_recall, gguf, config);
}

// Families of which more is known of h than its size, or where the pass is another, have no
// thresholds.
void CheckThresholdModel(const EngineOptions& options, const ModelConfig& config,
                         const Family& family) {
  if (!family.sub_norms && !config.has_encoder()) return;
  throw Error(
      {.path = options.model_path,
       .what = fmt::format("models of family {} run without thresholds", config.architecture),
       .expected = "auto or dense",
       .found = options.sparse,
       .settings = {{Setting::kSparseMode, "auto"}}});
}

// Of what the file has by column neurons' gates are not read one by one, and layers lie whole on
// one tier.
void CheckColumns(const ModelConfig& config, const EngineOptions& options, SparseMode ffn_mode) {
  if (!config.by_column) return;
  const bool predicted = ffn_mode == SparseMode::kPredicted;
  if (options.placement_path.empty() && !predicted) return;
  throw Error({.path = options.model_path,
               .what = "a file that is stored by column runs without a placement or a predictor",
               .expected = "the model that it was packed from",
               .found = predicted ? "a predictor" : options.placement_path,
               .settings = {{Setting::kPlacement}, {Setting::kPredictor}}});
}

std::optional<ModelThresholds> ReadThresholdsOf(const EngineOptions& options,
                                                const std::optional<ThresholdChoice>& choice,
                                                const GgufReader& gguf, const ModelConfig& config) {
  if (!choice) {
    if (options.thresholds_path.empty() && !options.by_column) return std::nullopt;
    throw Error({.what = options.by_column ? "matrices by column are for thresholds"
                                           : "thresholds are for the modes METHOD:SHARE",
                 .expected = "a mode such as teal:0.4",
                 .found = options.sparse,
                 .settings = {{Setting::kSparseMode, "teal:0.4"}}});
  }
  if (options.thresholds_path.empty()) {
    throw Error({.what = fmt::format("the mode {} needs thresholds", options.sparse),
                 .expected = "a profile of the model that was made with thresholds",
                 .found = "none",
                 .settings = {{Setting::kThresholds}},
                 .jobs = {Job::kProfile}});
  }
  return OpenThresholds(options.thresholds_path, config, options.model_path,
                        ModelFingerprints(gguf));
}

std::shared_ptr<const DraftFile> OpenDraft(const EngineOptions& options, const GgufReader& gguf,
                                           const Family& family, const ModelConfig& config) {
  if (options.draft_path.empty()) return options.draft;
  auto draft = std::make_shared<const DraftFile>(ReadDraft(options.draft_path));
  CheckDraftFits(*draft, gguf, family, config);
  return draft;
}

// A draft's order, where there is nothing else to go by. Where both tiers are the CPU's, nothing is
// won by parting them, unless one of them is to be slow: the hot neurons come first on the one tier
// that there is.
std::optional<Placement> PlacementOf(const DraftFile* draft, const EngineOptions& options,
                                     const std::string& gpu) {
  if (draft == nullptr || draft->n_hot() == 0) return std::nullopt;
  const bool on_one_tier = gpu.empty() && options.slow_tier_bytes_per_s == 0;
  return PlacementOfDraft(*draft, on_one_tier);
}

std::optional<Placement> OpenPlacement(const EngineOptions& options, const GgufReader& gguf,
                                       const ModelConfig& config, const DraftFile* draft,
                                       const std::string& gpu) {
  if (options.placement_path.empty()) return PlacementOf(draft, options, gpu);
  Placement placement = ReadPlacement(options.placement_path);
  CheckPlacementFits(placement, config, options.model_path, ModelFingerprints(gguf));
  int64_t n_nvme = 0;
  for (const LayerPlacement& layer : placement.layers) n_nvme += layer.n_on[kNvme];
  if (n_nvme > 0) {
    throw Error({.path = options.placement_path,
                 .what = "the placement puts neurons on NVMe, a tier this version does not run",
                 .expected = "every neuron in vram or dram",
                 .found = fmt::format("{} neurons on nvme", n_nvme),
                 .hint = "place again with a larger budget of RAM or VRAM",
                 .settings = {{Setting::kRamBudget}, {Setting::kVramBudget}},
                 .jobs = {Job::kPlace}});
  }
  return placement;
}

void CheckCacheType(const EngineOptions& options, const std::string& gpu) {
  if (gpu.empty() || options.cache_type != DType::kF32) return;
  throw Error({.path = options.model_path,
               .what = "the GPU does not store keys and values in f32",
               .expected = "f16 or q8_0",
               .found = "f32",
               .settings = {{Setting::kCacheType, "f16"}, {Setting::kFastTier, "cpu"}}});
}

void CheckActivations(const EngineOptions& options, const std::string& gpu) {
  if (gpu.empty() || options.activation_bits == 8) return;
  throw Error({.path = options.model_path,
               .what = "the GPU multiplies quantised weights by activations of 8 bits",
               .expected = "8",
               .found = std::to_string(options.activation_bits),
               .settings = {{Setting::kActivations, "8"}, {Setting::kFastTier, "cpu"}}});
}

// A layer that makes something of all its neurons needs them on one tier.
void CheckWholeLayers(const ModelConfig& config, const Placement& placement,
                      const EngineOptions& options) {
  for (int64_t l = 0; l < config.n_layers; ++l) {
    const LayerPlacement& layer = placement.layers[static_cast<size_t>(l)];
    const FfnConfig& ffn = config.layer(l).ffn;
    if (!ffn.keeps_together() || layer.n_on[kVram] == 0 || layer.n_on[kDram] == 0) continue;
    const char* const done = ffn.cuts_gates ? "cuts its gates by" : "normalises its neurons by";
    throw Error(
        {.path = options.placement_path,
         .what =
             fmt::format("layer {} {} what all of them are, and they are on two tiers", l, done),
         .expected = fmt::format("{} neurons on one tier", config.d_ff_of(l)),
         .found = fmt::format("{} in vram and {} in dram", layer.n_on[kVram], layer.n_on[kDram]),
         .hint = "place the model again, or run it without a placement",
         .jobs = {Job::kPlace}});
  }
}

// Which layers can attend elsewhere than on the fast tier, and that the placement has no others do.
void CheckAttentionTiers(const ModelConfig& config, const Placement& placement,
                         const EngineOptions& options) {
  for (int64_t l = 0; l < config.n_layers; ++l) {
    const PlacementTier tier = placement.layers[static_cast<size_t>(l)].attention;
    if (tier == kVram) continue;
    if (tier == kDram && config.attention_may_move()) continue;
    throw Error({.path = options.placement_path,
                 .what = fmt::format("layer {} attends on {}, which this model's cannot", l,
                                     kPlacementTierNames[tier]),
                 .expected = tier == kDram ? "vram" : "vram or dram",
                 .found = kPlacementTierNames[tier],
                 .hint = "place the model again",
                 .jobs = {Job::kPlace}});
  }
}

std::vector<size_t> AttentionTiers(const Placement* placement) {
  std::vector<size_t> tiers;
  if (placement == nullptr) return tiers;
  for (const LayerPlacement& layer : placement->layers) tiers.push_back(layer.attention);
  return tiers;
}

std::vector<std::unique_ptr<const LoraFile>> OpenLoras(const EngineOptions& options,
                                                       const ModelConfig& config,
                                                       const Family& family) {
  std::vector<std::unique_ptr<const LoraFile>> loras;
  for (const LoraOption& lora : options.loras) {
    loras.push_back(std::make_unique<const LoraFile>(lora.path, lora.scale, config, family));
  }
  return loras;
}

}  // namespace

OpenedModel::OpenedModel(const EngineOptions& options)
    : options_(options),
      gguf_(OpenModelFile(options.model_path)),
      family_(FindFamily(gguf_)),
      config_(ReadModelConfig(gguf_, family_)),
      gpu_(ChooseGpu(options.fast_tier)),
      draft_(OpenDraft(options, gguf_, family_, config_)),
      placement_(OpenPlacement(options, gguf_, config_, draft_.get(), gpu_)),
      choice_(ChoiceOf(options, config_)),
      mode_(ModeOf(options, config_, choice_)),
      thresholds_(ReadThresholdsOf(options, choice_, gguf_, config_)),
      predictor_(OpenPredictor(options, mode_, choice_, gguf_, config_)),
      loras_(OpenLoras(options, config_, family_)),
      context_tokens_(ContextTokens(options, config_)),
      n_threads_(options.n_threads > 0 ? options.n_threads : DefaultThreadCount()) {
  ChooseLongRope(context_tokens_, &config_.rope);
  CheckTensors(gguf_, family_, config_);
  CheckGpuStream(options_, config_, gpu_, StoresFfnByColumn());
  CheckSequences(options_);
  CheckCacheType(options_, gpu_);
  CheckActivations(options_, gpu_);
  if (placement_) CheckWholeLayers(config_, *placement_, options_);
  if (placement_) CheckAttentionTiers(config_, *placement_, options_);
  CheckKvTokens(options_, context_tokens_);
  CheckDownType(options_, config_);
  if (choice_) CheckThresholdModel(options_, config_, family_);
  CheckColumns(config_, options_, choice_ ? choice_->ffn_mode : mode_);
  if (!gpu_.empty()) RequireEqualHeads(config_, options.model_path, "attention on the GPU");
  if (!gpu_.empty() && !placement_) SplitLayers();
  adapt_ = ChooseAdapt(*this);
  if (options_.slow_tier_bytes_per_s > 0 && !has_cold()) {
    throw Error({.path = options_.model_path,
                 .what = "no slow tier holds any neurons, so that none can be held to a limit",
                 .expected = "a placement that leaves some there",
                 .found = placement_ ? "one that does not" : "no placement",
                 .settings = {{Setting::kPlacement}}});
  }
}

int64_t OpenedModel::batch_tokens() const {
  const int64_t all_tokens = context_tokens_ * options_.n_sequences;
  // A pass has room for a token of every sequence, and for what is drafted.
  const int64_t fewest = options_.n_sequences + std::min(options_.drafted_rows, all_tokens - 1);
  return std::max(std::clamp<int64_t>(options_.batch_tokens, 1, all_tokens), fewest);
}

int64_t OpenedModel::max_sampled_rows() const {
  return options_.n_sequences + std::min(options_.drafted_rows, batch_tokens());
}

KvLayout OpenedModel::KvLayoutFor(const Placement* placement) const {
  return MakeKvLayout(config_, {.context_tokens = context_tokens_,
                                .batch_tokens = batch_tokens(),
                                .n_sequences = options_.n_sequences,
                                .keeps_all = options_.keep_all_kv,
                                .all_tokens = options_.kv_tokens,
                                .tiers = AttentionTiers(placement)});
}

ExecutorOptions OpenedModel::executor_options() const {
  const int64_t batch = batch_tokens();
  return {.max_tokens = config_.has_encoder() ? std::max(batch, context_tokens_) : batch,
          .max_logits = options_.all_logits ? batch : max_sampled_rows(),
          .mode = mode_,
          .predictor_input = predictor_ ? predictor_->input() : PredictorInput::kNormed,
          .keep_attention_input = options_.watch_attention,
          .stream_cold =
              // What is streamed is not held to a limit.
          gpu_.empty() || !StreamsNeurons(config_) || StoresFfnByColumn() ||
                  options_.slow_tier_bytes_per_s > 0
              ? StreamCold::kOff
              : options_.gpu_stream,
          .stream_piece_bytes = options_.stream_piece_bytes,
          .slow_bytes_per_s = options_.slow_tier_bytes_per_s};
}

// Dense and exact read the same rows, so that they write the same text: what could skip is stored
// per neuron in every mode.
DownStorage OpenedModel::DownStorageFor(const Placement* placement) const {
  const bool all_layers = placement != nullptr || options_.always_per_neuron || choice_.has_value();
  const bool per_neuron = mode_ != SparseMode::kDense || all_layers || config_.has_true_zeros();
  return {per_neuron ? DownLayout::kPerNeuron : DownLayout::kStock, options_.down_type, all_layers};
}

// Each tier's gates and ups lie by column by themselves.
ColumnStorage OpenedModel::column_storage() const {
  if (config_.by_column || !options_.by_column || !choice_ || choice_->by_gate()) return {};
  return {.attention = true, .ffn = choice_->ffn_mode == SparseMode::kThreshold};
}

int64_t OpenedModel::adapter_rank() const {
  int64_t total = 0;
  for (const auto& lora : loras_) total += lora->max_rank();
  return total;
}

bool OpenedModel::has_cold() const {
  return placement_ && std::ranges::any_of(placement_->layers, [&](const LayerPlacement& layer) {
           return layer.n_on[kDram] > 0;
         });
}

bool OpenedModel::uses_slow_tier() const {
  return has_cold() || (placement_ && std::ranges::count(placement_->layers, kDram,
                                                         &LayerPlacement::attention) > 0);
}

FastTierNeeds OpenedModel::NeedsOf(const Placement* placement) const {
  int64_t max_neurons = placement != nullptr ? 0 : config_.d_ff;
  int64_t max_cold = 0;
  for (int64_t l = 0; placement != nullptr && l < config_.n_layers; ++l) {
    const int64_t hot = placement->layers[static_cast<size_t>(l)].n_on[kVram];
    max_neurons = std::max(max_neurons, hot);
    max_cold = std::max(max_cold, config_.d_ff_of(l) - hot);
  }
  for (size_t l = 0; draft_ != nullptr && l < draft_->layers.size(); ++l) {
    for (const DraftSlice& slice : draft_->layers[l].slices) {
      max_neurons = std::max(max_neurons, slice.n_neurons);
    }
  }
  const ExecutorOptions executor = executor_options();
  const bool predicts = placement == nullptr && predictor() != nullptr;
  return {.config = &config_,
          .max_tokens = executor.max_tokens,
          .max_seq_len = context_tokens_,
          .max_neurons = max_neurons,
          .predicts = predicts,
          .max_rank = predicts ? predictor()->max_rank() : 0,
          .max_streamed_neurons = executor.MayStream() ? max_cold : 0,
          .stream_piece_bytes = executor.stream_piece_bytes,
          .max_sequences = options_.n_sequences,
          .max_best_rows = max_sampled_rows(),
          .n_kv_classes = static_cast<int64_t>(KvLayoutFor(placement).classes.size()),
          .n_adapters = static_cast<int64_t>(loras_.size()),
          .adapter_rank = adapter_rank(),
          .cuts = cuts_channels(),
          .by_column = has_columns()};
}

MemoryPlan OpenedModel::PlanOf(const Placement* placement) const {
  PlanInput input;
  input.gguf = &gguf_;
  input.family = &family_;
  input.config = &config_;
  input.placement = placement;
  input.down = DownStorageFor(placement);
  input.columns = column_storage();
  input.cuts = cuts_channels();
  input.has_columns = config_.by_column || input.columns.attention;
  input.predictor = predictor();
  for (const auto& lora : loras_) input.loras.push_back(lora.get());
  input.adapter_rank = adapter_rank();
  input.executor = executor_options();
  input.context_tokens = context_tokens_;
  input.n_sequences = options_.n_sequences;
  input.kv_layout = KvLayoutFor(placement);
  input.cache_type = options_.cache_type;
  input.activation_bits = options_.activation_bits;
  input.n_threads = n_threads_;
  if (!gpu_.empty()) {
    const FastTierNeeds needs = NeedsOf(placement);
    input.gpu_scratch_bytes = GpuScratchBytes(needs);
    if (choice_) *input.gpu_scratch_bytes += ModelCuts::FactorBytes(config_, choice_->method);
    input.gpu_pinned_bytes = GpuPinnedBytes(needs);
  }
  input.tier_names = TierNames();
  input.moves_neurons = adapt_.moves || (placement != nullptr && plans_moves());
  MemoryPlan plan = PlanMemory(input);
  if (draft_ != nullptr) {
    const TierShare most[] = {{.max_neurons = NeedsOf(placement).max_neurons}};
    plan.tiers.front().scratch_bytes +=
        draft_->own_bytes() + PassContext::BufferBytes(config_, input.executor, most).front();
  }
  return plan;
}

std::vector<std::string> OpenedModel::TierNames() const {
  if (!gpu_.empty()) return {"vram (" + gpu_ + ")", kSlowName};
  return {placement_ ? kFastName : kOneTierName, kSlowName};
}

const Tokenizer& OpenedModel::tokenizer() {
  if (tokenizer_ != nullptr) return *tokenizer_;
  auto made = MakeTokenizer(gguf_);
  const bool has_vocabulary = made->vocab_size() > 0;
  if (has_vocabulary && made->vocab_size() != config_.vocab_size) {
    throw Error({.path = options_.model_path,
                 .what = "the vocabulary and the embedding table do not go together",
                 .expected = fmt::format("{} tokens, one per row", config_.vocab_size),
                 .found = fmt::format("{}", made->vocab_size())});
  }
  tokenizer_ = std::move(made);
  return *tokenizer_;
}

}  // namespace thermocline
