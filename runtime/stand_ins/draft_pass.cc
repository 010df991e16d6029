#include "runtime/stand_ins/draft_pass.h"

#include <algorithm>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

constexpr int32_t kDraftExecutor = 1;

uint64_t BytesOf(const LinearWeights& w) { return w.w.empty() ? 0 : w.w.weight_bytes(); }

// Of attention, head, hot neurons and stand-ins; norms and biases are small.
uint64_t ReadBytes(const ModelWeights& weights) {
  uint64_t bytes = BytesOf(weights.output);
  for (const LayerWeights& layer : weights.layers) {
    for (const LinearWeights* w : {&layer.wq, &layer.wk, &layer.wv, &layer.wo, &layer.cross_q,
                                   &layer.cross_o, &layer.stand_in.left, &layer.stand_in.right}) {
      bytes += BytesOf(*w);
    }
    for (const FfnSlice& slice : layer.slices) bytes += slice.weight_bytes();
    for (const FfnSlice& slice : layer.stand_in.slices) bytes += slice.weight_bytes();
  }
  return bytes;
}

void RequireApart(const ModelConfig& config, const std::string& path) {
  for (const LayerConfig& layer : config.layers) {
    if (!layer.ffn.keeps_together()) continue;
    throw Error({.path = path,
                 .what = "something is made of all of a token's neurons in this model, so that a "
                         "draft cannot leave out any",
                 .hint = "draft with another source"});
  }
}

}  // namespace

DraftPass::DraftPass(Engine& engine, const DraftFile& file)
    : engine_(engine), own_(std::make_unique<DraftWeights>(engine)), own_bytes_(file.own_bytes()) {
  const OpenedModel& model = engine.model();
  CheckDraftFits(file, model.gguf(), model.family(), model.config());
  RequireApart(model.config(), model.gguf().path());
  RequireNoEncoder(model.config(), model.gguf().path(), "a draft of the hot neurons");
  if (model.placement() != nullptr) {
    CheckDraftPlacement(file, *model.placement());
    const auto& layers = model.placement()->layers;
    if (std::ranges::count(layers, kVram, &LayerPlacement::attention) != std::ssize(layers)) {
      throw Error({.path = model.placement()->path,
                   .what = "layers attend on the slow tier, which a draft does without",
                   .expected = "a placement with all attention on the fast tier",
                   .hint = "draft with another source, or place the model with more VRAM"});
    }
  } else if (file.n_hot() > 0) {
    throw Error({.path = file.path,
                 .what = "the draft computes hot neurons, and the model's lie in no order",
                 .hint = "open the model with the draft, which brings a placement"});
  }
  own_->Store(file);
  MakeExecutor(own_->weights(), 0, 0);
  read_bytes_ = ReadBytes(own_->weights());
}

DraftPass::DraftPass(Engine& engine, const ModelWeights& weights, int64_t max_rank)
    : engine_(engine) {
  RequireApart(engine.config(), engine.model().gguf().path());
  MakeExecutor(weights, engine.config().d_ff, max_rank);
}

void DraftPass::MakeExecutor(const ModelWeights& weights, int64_t least_neurons,
                             int64_t least_rank) {
  const OpenedModel& model = engine_.model();
  ExecutorOptions options = model.executor_options();
  const bool skips = options.mode != SparseMode::kDense && model.config().has_true_zeros();
  options.mode = skips ? SparseMode::kExact : SparseMode::kDense;
  options.predictor_input = PredictorInput::kNormed;
  options.keep_attention_input = false;
  options.stream_cold = StreamCold::kOff;
  options.executor = kDraftExecutor;
  options.max_tokens = model.batch_tokens();
  options.max_logits = model.max_sampled_rows();
  options.least_neurons = least_neurons;
  options.least_rank = least_rank;
  Device* const fast[] = {&engine_.fast_tier()};
  executor_ = std::make_unique<Executor>(model.config(), weights, options, engine_.team(),
                                         engine_.cache(), fast);
}

}  // namespace thermocline
