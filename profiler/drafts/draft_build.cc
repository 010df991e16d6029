#include "profiler/drafts/draft_build.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "profiler/activations/activation_counter.h"
#include "runtime/convert/convert_rows.h"
#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"
#include "runtime/model/families.h"
#include "runtime/threads/sgemm.h"

namespace thermocline {

NeuronOrders RankNeurons(const ProfileStats& stats, DraftRanking ranking) {
  NeuronOrders orders;
  for (const LayerActivity& layer : stats.calibration.layers) {
    std::vector<int32_t>& order = orders.emplace_back(layer.count.size());
    std::iota(order.begin(), order.end(), 0);
    std::ranges::stable_sort(order, [&](int32_t a, int32_t b) {
      const auto i = static_cast<size_t>(a);
      const auto j = static_cast<size_t>(b);
      return ranking == DraftRanking::kFrequency ? layer.count[i] > layer.count[j]
                                                 : layer.mass[i] > layer.mass[j];
    });
  }
  return orders;
}

std::shared_ptr<const DraftFile> OrderedDraft(const ModelConfig& config,
                                              const std::string& fingerprint,
                                              const NeuronOrders& orders) {
  auto draft = std::make_shared<DraftFile>();
  draft->model_fingerprint = fingerprint;
  draft->d_model = config.d_model;
  draft->d_ff = config.d_ff;
  for (const std::vector<int32_t>& order : orders) {
    DraftLayer& layer = draft->layers.emplace_back();
    layer.order = order;
    layer.n_hot = static_cast<int64_t>(order.size());
  }
  return draft;
}

DType StandInType(int bits, int64_t d_model) {
  const bool whole = d_model % kSuperBlock == 0;
  switch (bits) {
    case 2:
      return whole ? DType::kQ2_K : FittingType(DType::kS2_0, d_model);
    case 3:
      return whole ? DType::kQ3_K : FittingType(DType::kS3_0, d_model);
    default:
      CHECK(bits == 4);
      return whole ? DType::kQ4_K : FittingType(DType::kIQ4_NL, d_model);
  }
}

// Sums what the draft feeds the FFN, beside what the neurons that it leaves out make of that. The
// engine runs whole layers, in the order of its placement, so these are the last ones.
class DraftBuilder::LeftOutObserver final : public FfnObserver {
 public:
  LeftOutObserver(LeftOutMoments& moments, const FfnSlice& slice, int64_t n_left_out)
      : moments_(moments), d_(slice.down.cols), n_(n_left_out), first_(slice.n_neurons - n_) {
    down_.resize(static_cast<size_t>(n_ * d_));
    for (int64_t i = 0; i < n_; ++i) {
      CpuKernels().dequantize_f32(slice.down.dtype, slice.down.row(first_ + i), 0, d_,
                                  down_.data() + i * d_);
    }
  }

  void OnFfn(const Lane& lane, const FfnObservation& seen) override {
    const int64_t d_ff = seen.slice->n_neurons;
    if (lane.rank == 0) left_out_.resize(static_cast<size_t>(seen.n_tokens * d_));
    lane.Sync();
    const auto [from, to] = lane.Split(seen.n_tokens);
    if (to > from && n_ > 0) {
      Sgemm(false, false, to - from, d_, n_, seen.h + from * d_ff + first_, d_ff, down_.data(), d_,
            left_out_.data() + from * d_, d_);
    }
    lane.Sync();
    const auto [begin, end] = lane.Split(d_, 16);
    moments_.AddRows(seen.x, left_out_.data(), seen.n_tokens, begin, end);
    if (lane.rank == 0) moments_.CountTokens(seen.n_tokens);
    lane.Sync();
  }

 private:
  LeftOutMoments& moments_;
  int64_t d_;
  int64_t n_;
  int64_t first_;
  std::vector<float> down_;      // (n, d_model)
  std::vector<float> left_out_;  // (n_tokens, d_model)
};

namespace {

std::vector<float> FloatsOf(const float* values, int64_t first, int64_t n) {
  if (values == nullptr) return {};
  return {values + first, values + first + n};
}

// How much errors of weights that read one of a layer's inputs count, by column; empty: alike.
std::vector<float> InputImportance(const ProfileStats& stats, int64_t l,
                                   std::vector<double> LayerInputSquares::*input) {
  std::vector<float> importance;
  if (stats.input_squares.empty()) return importance;
  for (const double square : stats.input_squares[static_cast<size_t>(l)].*input) {
    importance.push_back(
        static_cast<float>(square / static_cast<double>(stats.calibration.n_tokens)));
  }
  return importance;
}

std::vector<float> MatrixImportance(const ProfileStats& stats, int64_t l, TensorRole role) {
  switch (role) {
    case TensorRole::kWq:
    case TensorRole::kWk:
    case TensorRole::kWv:
      return InputImportance(stats, l, &LayerInputSquares::attention);
    case TensorRole::kWo:
      return InputImportance(stats, l, &LayerInputSquares::attended);
    default:
      return {};
  }
}

void RequireBuildable(const OpenedModel& model) {
  const ModelConfig& config = model.config();
  const std::string& path = model.gguf().path();
  RequireNoEncoder(config, path, "a draft of the hot neurons");
  RequireEqualFfns(config, path, "a draft of the hot neurons");
  if (!config.streams.several() && config.layer_embd_dim == 0) return;
  throw Error(
      {.path = path,
       .what = "a draft is fitted to the residual stream, of which this model has several"});
}

}  // namespace

DraftBuilder::DraftBuilder(Engine& engine, const ProfileStats& stats, const DraftTexts& calibration,
                           ProgressFn progress)
    : engine_(engine),
      stats_(stats),
      calibration_(calibration),
      progress_(std::move(progress)),
      weights_(engine),
      pass_(engine, weights_.weights(), engine.config().d_model) {
  RequireBuildable(engine.model());
  CHECK(engine.model().draft() != nullptr && engine.fast_tier().queued() == nullptr);
  CHECK(static_cast<int64_t>(stats.calibration.layers.size()) == engine.config().n_layers);
}

uint64_t DraftBuilder::hot_bytes() const {
  return slice(0).weight_bytes() / static_cast<uint64_t>(slice(0).n_neurons);
}

uint64_t DraftBuilder::stand_in_bytes(DType dtype) const {
  const uint64_t matrices = slice(0).is_gated() ? 3 : 2;
  return matrices * static_cast<uint64_t>(RowBytes(dtype, engine_.config().d_model));
}

uint64_t DraftBuilder::map_bytes(int64_t rank) const {
  const int64_t d = engine_.config().d_model;
  const auto rows = [](DType wanted, int64_t n, int64_t cols) {
    return static_cast<uint64_t>(n * RowBytes(FittingType(wanted, cols), cols));
  };
  return rank == 0 ? 0 : rows(DType::kQ8_0, rank, d) + rows(DType::kQ8_0, d, rank);
}

DraftMatrix DraftBuilder::Convert(const std::string& name, const TensorView& rows, DType dtype,
                                  std::span<const float> importance) const {
  DraftMatrix matrix;
  const int64_t stride = RowBytes(dtype, rows.cols);
  auto bytes = std::make_shared<std::vector<std::byte>>(static_cast<size_t>(stride * rows.rows));
  WeightRows from = RowsOf(engine_.model().gguf().path(), name, rows);
  from.importance = importance;
  ConvertRows(from, 0, rows.rows, dtype, engine_.model().n_threads(), bytes->data(), stride);
  matrix.view = DenseView(bytes->data(), dtype, rows.rows, rows.cols);
  matrix.bytes = std::move(bytes);
  return matrix;
}

DraftLayer DraftBuilder::MakeLayer(const DraftRecipe& recipe, int64_t l) const {
  const auto at = static_cast<size_t>(l);
  const FfnSlice& all = slice(l);
  DraftLayer layer;
  layer.order = engine_.model().draft()->layers[at].order;
  layer.n_hot = recipe.n_hot[at];
  const std::vector<float> importance = InputImportance(stats_, l, &LayerInputSquares::ffn);
  int64_t first = layer.n_hot;
  for (const DraftRecipe::Slice& wanted : recipe.slices) {
    DraftSlice& stand_in = layer.slices.emplace_back();
    const int64_t n = wanted.n_neurons[at];
    CHECK(n >= 0 && first + n <= all.n_neurons);
    stand_in.n_neurons = n;
    if (n == 0) continue;
    stand_in.gate = Convert("gate", all.gate.SliceRows(first, first + n), wanted.dtype, importance);
    if (all.is_gated()) {
      stand_in.up = Convert("up", all.up.SliceRows(first, first + n), wanted.dtype, importance);
    }
    stand_in.down = Convert("down", all.down.SliceRows(first, first + n), wanted.dtype, {});
    stand_in.gate_bias = FloatsOf(all.gate_bias, first, n);
    stand_in.up_bias = FloatsOf(all.up_bias, first, n);
    first += n;
  }
  return layer;
}

// The head has the type that it has in models of the others' type, unless it has no more bits as it
// is.
std::vector<DraftReplacement> DraftBuilder::Copy(DType dtype) const {
  std::vector<DraftReplacement> out;
  const OpenedModel& model = engine_.model();
  const ModelConfig& config = engine_.config();
  const ModelWeights& weights = engine_.weights();
  const TensorTable table = model.family().tensors;
  const auto add = [&](const std::string& name, const TensorView& w, DType wanted,
                       std::span<const float> importance) {
    const DType type = FittingType(wanted, w.cols);
    if (RowBytes(type, w.cols) >= RowBytes(w.dtype, w.cols)) return;
    out.push_back({name, Convert(name, w, type, importance)});
  };
  for (int64_t l = 0; l < config.n_layers; ++l) {
    ForEachLayerTensor(
        model.gguf(), table, config, l, [&](const ModelTensor& tensor, const GgufTensorInfo* info) {
          if (info == nullptr || tensor.row->matrix == nullptr || tensor.unused) {
            return;
          }
          const LinearWeights& w = weights.layers[static_cast<size_t>(l)].*tensor.row->matrix;
          if (w.by_column) return;
          add(tensor.name, w.w, dtype, MatrixImportance(stats_, l, tensor.row->role));
        });
  }
  const TensorRole head = config.tied_output ? TensorRole::kTokenEmbd : TensorRole::kOutput;
  add(TensorOf(table, head, config).name, weights.output.w, GetWeightTypeInfo(dtype).for_vocabulary,
      {});
  return out;
}

DraftFile DraftBuilder::Build(const DraftRecipe& recipe) {
  const ModelConfig& config = engine_.config();
  DraftFile draft;
  draft.model_fingerprint = engine_.model().draft()->model_fingerprint;
  draft.d_model = config.d_model;
  draft.d_ff = config.d_ff;
  draft.rank = recipe.rank;
  draft.ranking = engine_.model().draft()->ranking;
  draft.calibration_tokens = stats_.calibration.n_tokens;
  for (int64_t l = 0; l < config.n_layers; ++l) {
    ThrowIfInterrupted();
    draft.layers.push_back(MakeLayer(recipe, l));
  }
  if (recipe.copy) draft.replacements = Copy(*recipe.copy);
  if (recipe.is_fitted()) Fit(recipe, &draft);
  return draft;
}

DraftPass& DraftBuilder::Run(const DraftFile& draft) {
  weights_.Clear();
  for (size_t l = 0; l < draft.layers.size(); ++l) {
    weights_.Use(static_cast<int64_t>(l), draft.layers[l]);
  }
  weights_.UseReplacements(draft);
  return pass_;
}

void DraftBuilder::FitLayer(const DraftRecipe& recipe, const LeftOutMoments& moments,
                            DraftLayer* layer) const {
  const int64_t d = engine_.config().d_model;
  const int64_t rank = recipe.rank;
  std::vector<float> left;
  std::vector<float> right;
  if (rank > 0) {
    LowRankMap map = FitLowRank(moments, d, rank);
    const auto store = [&](const char* name, std::vector<float>* values, int64_t rows,
                           int64_t cols) {
      DraftMatrix matrix = Convert(name, DenseView(values->data(), DType::kF32, rows, cols),
                                   FittingType(DType::kQ8_0, cols), {});
      // The bias makes up for what rounding does to the mean.
      for (int64_t r = 0; r < rows; ++r) {
        CpuKernels().dequantize_f32(matrix.view.dtype, matrix.view.row(r), 0, cols,
                                    values->data() + r * cols);
      }
      return matrix;
    };
    left = std::move(map.left);
    right = std::move(map.right);
    layer->left = store("left", &left, rank, d);
    layer->right = store("right", &right, d, rank);
  }
  layer->bias = FitBias(moments, left, right, rank);
}

// Calls body(tokens, first position, the chunk's part of streams) for every chunk of every window.
template <typename Body>
void DraftBuilder::ForChunks(std::vector<float>* streams, const Body& body) {
  const int64_t batch = engine_.model().executor_options().max_tokens;
  float* x = streams->data();
  for (const std::vector<int32_t>& window : calibration_) {
    const auto n_window = static_cast<int64_t>(window.size());
    for (int64_t first = 0; first < n_window; first += batch) {
      ThrowIfInterrupted();
      const int64_t n = std::min(batch, n_window - first);
      body(std::span(window).subspan(static_cast<size_t>(first), static_cast<size_t>(n)), first, x);
      x += n * engine_.config().d_model;
    }
  }
}

// A draft's tokens attend to the model's own keys and values of all that is verified, so the cache
// holds those: rows of the full stream write them, rows of the draft's stream read them. (Of its
// own position, too, where it would have the draft's.)
void DraftBuilder::Fit(const DraftRecipe& recipe, DraftFile* draft) {
  const ModelConfig& config = engine_.config();
  const int64_t d = config.d_model;
  int64_t n_tokens = 0;
  for (const std::vector<int32_t>& window : calibration_) {
    n_tokens += static_cast<int64_t>(window.size());
  }
  draft->calibration_tokens = n_tokens;
  Executor& full = engine_.executor();
  engine_.Reset();
  std::vector<float> x(static_cast<size_t>(n_tokens * d));
  ForChunks(&x, [&](std::span<const int32_t> ids, int64_t /*first*/, float* chunk) {
    full.Embed(ids, chunk);
  });
  std::vector<float> z = x;
  std::vector<float> scratch;
  Run(*draft);
  for (int64_t l = 0; l < config.n_layers; ++l) {
    Report(progress_, "layers of a draft", static_cast<uint64_t>(l),
           static_cast<uint64_t>(config.n_layers));
    DraftLayer& layer = draft->layers[static_cast<size_t>(l)];
    const auto of_draft = [&](const float* chunk) { return z.data() + (chunk - x.data()); };
    const auto copy = [&](const float* from, size_t n) {
      scratch.assign(from, from + n * static_cast<size_t>(d));
      return scratch.data();
    };
    LeftOutMoments moments(d);
    LeftOutObserver observer(moments, slice(l), layer.n_left_out());
    ForChunks(&x, [&](std::span<const int32_t> ids, int64_t first, float* chunk) {
      const auto n = static_cast<int64_t>(ids.size());
      full.RunLayers(copy(chunk, ids.size()), n, first, l, l + 1);
      const ScopedObserver watching(full, &observer);
      full.RunLayers(copy(of_draft(chunk), ids.size()), n, first, l, l + 1, /*keeps_cache=*/true);
    });
    FitLayer(recipe, moments, &layer);
    weights_.Use(l, layer);
    ForChunks(&x, [&](std::span<const int32_t> ids, int64_t first, float* chunk) {
      const auto n = static_cast<int64_t>(ids.size());
      full.RunLayers(chunk, n, first, l, l + 1);
      pass_.executor().RunLayers(of_draft(chunk), n, first, l, l + 1, /*keeps_cache=*/true);
    });
  }
}

}  // namespace thermocline
