#include "runtime/lora/load_adapters.h"

#include <numeric>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

using Floats = std::vector<float>;

// Memory of a tier for one layer of an adapter, handed out piece by piece.
class Arena {
 public:
  Arena(Device& device, uint64_t n_bytes)
      : device_(device),
        next_(n_bytes == 0 ? nullptr : static_cast<float*>(device.Allocate(n_bytes, "adapters"))),
        left_(n_bytes / sizeof(float)) {}

  const float* Put(const Floats& values) {
    CHECK(values.size() <= left_);
    float* const at = next_;
    device_.Upload(at, values.data(), values.size() * sizeof(float));
    next_ += values.size();
    left_ -= values.size();
    return at;
  }
  bool is_full() const { return left_ == 0; }

 private:
  Device& device_;
  float* next_;
  uint64_t left_;
};

// (rows, cols) -> (cols, rows).
Floats Transposed(const Floats& values, int64_t rows, int64_t cols) {
  Floats turned(values.size());
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c) {
      turned[static_cast<size_t>(c * rows + r)] = values[static_cast<size_t>(r * cols + c)];
    }
  }
  return turned;
}

// Rows of `cols` values of the neurons of a slice.
Floats RowsOf(const FfnSlice& slice, const Floats& values, int64_t cols) {
  if (slice.neuron_ids == nullptr) return values;
  Floats own;
  own.reserve(static_cast<size_t>(slice.n_neurons * cols));
  for (int64_t i = 0; i < slice.n_neurons; ++i) {
    const auto row = values.begin() + slice.neuron_ids[i] * cols;
    own.insert(own.end(), row, row + cols);
  }
  return own;
}

LowRankForm FormFor(Device& device) {
  return device.queued() != nullptr ? LowRankForm::kByRanks : LowRankForm::kByRows;
}

// a: (rank, d_in), b: (d_out, rank).
LowRankMatrix PutMatrix(const Floats& a, const Floats& b, int64_t rank, LowRankForm form,
                        Arena* arena) {
  const float* const put = arena->Put(a);
  if (form == LowRankForm::kByRows) return {rank, put, arena->Put(b)};
  const int64_t d_out = static_cast<int64_t>(b.size()) / rank;
  return {rank, put, arena->Put(Transposed(b, d_out, rank))};
}

// Of some neurons. a_t: (n_neurons, rank), b: (d_model, rank).
LowRankMatrix PutDown(const Floats& a_t, const Floats& b, int64_t rank, LowRankForm form,
                      Arena* arena) {
  const int64_t n_neurons = static_cast<int64_t>(a_t.size()) / rank;
  const int64_t d_model = static_cast<int64_t>(b.size()) / rank;
  const bool by_rows = form == LowRankForm::kByRows;
  const float* const a = arena->Put(by_rows ? a_t : Transposed(a_t, n_neurons, rank));
  return {rank, a, arena->Put(Transposed(b, d_model, rank))};
}

AttentionLowRank LoadAttention(const LoraFile& file, int64_t layer, Device& device) {
  Arena arena(device, file.AttentionBytes(layer));
  const auto load = [&](LoraTarget target) {
    const LoraMatrix& matrix = file.matrix(layer, target);
    if (matrix.rank == 0) return LowRankMatrix{};
    return PutMatrix(matrix.A(), matrix.B(matrix.scale), matrix.rank, FormFor(device), &arena);
  };
  const AttentionLowRank loaded = {load(LoraTarget::kQ), load(LoraTarget::kK), load(LoraTarget::kV),
                                   load(LoraTarget::kOutput)};
  CHECK(arena.is_full());
  return loaded;
}

FfnLowRank LoadSlice(const LoraFile& file, int64_t layer, const FfnSlice& slice, Device& device) {
  if (slice.n_neurons == 0) return {};
  Arena arena(device, file.FfnBytes(layer, slice.n_neurons));
  const auto by_rows = [&](LoraTarget target) -> LowRankMatrix {
    const LoraMatrix& matrix = file.matrix(layer, target);
    if (matrix.rank == 0) return {};
    return PutMatrix(matrix.A(), RowsOf(slice, matrix.B(matrix.scale), matrix.rank), matrix.rank,
                     FormFor(device), &arena);
  };
  FfnLowRank loaded;
  loaded.gate = by_rows(LoraTarget::kGate);
  loaded.up = by_rows(LoraTarget::kUp);
  const LoraMatrix& down = file.matrix(layer, LoraTarget::kDown);
  if (down.rank > 0) {
    const Floats a_t = Transposed(down.A(), down.rank, down.a.cols);
    loaded.down = PutDown(RowsOf(slice, a_t, down.rank), down.B(down.scale), down.rank,
                          FormFor(device), &arena);
  }
  CHECK(arena.is_full());
  return loaded;
}

}  // namespace

std::unique_ptr<ModelAdapters> LoadAdapters(std::span<const std::unique_ptr<const LoraFile>> files,
                                            const ModelWeights& weights,
                                            std::span<Device* const> tiers) {
  auto adapters = std::make_unique<ModelAdapters>();
  const size_t n_layers = weights.layers.size();
  adapters->attention.resize(n_layers);
  adapters->ffn.resize(n_layers);
  for (size_t l = 0; l < n_layers; ++l) {
    adapters->ffn[l].resize(tiers.size());
    for (const auto& file : files) {
      const auto layer = static_cast<int64_t>(l);
      adapters->attention[l].push_back(
          LoadAttention(*file, layer, *tiers[weights.layers[l].attention_tier]));
      for (size_t tier = 0; tier < tiers.size(); ++tier) {
        adapters->ffn[l][tier].push_back(
            LoadSlice(*file, layer, weights.layers[l].slices[tier], *tiers[tier]));
      }
    }
  }
  for (const auto& file : files) adapters->ranks.push_back(file->max_rank());
  std::vector<int32_t>& all = adapters->sets.emplace_back(files.size());
  std::iota(all.begin(), all.end(), 0);
  return adapters;
}

}  // namespace thermocline
