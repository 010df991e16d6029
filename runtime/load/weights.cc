#include "runtime/load/weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"
#include "runtime/gguf/own_files.h"
#include "runtime/model/relative_bias.h"
#include "runtime/model/stored_ffn.h"

namespace thermocline {
namespace {

class Loader {
 public:
  Loader(const GgufReader& gguf, const Family& family, const ModelConfig& config,
         const LoadOptions& options, std::span<Device* const> tiers)
      : gguf_(gguf),
        family_(family),
        config_(config),
        options_(options),
        tiers_(tiers),
        fast_(*tiers.front()),
        packed_(IsPacked(gguf)),
        ones_(tiers.size()) {}

  std::unique_ptr<LoadedWeights> Load() {
    out_ = std::make_unique<LoadedWeights>();
    out_->mapped_bytes.resize(tiers_.size());
    ModelWeights& w = out_->weights;
    w.token_embd = RequireWeights(gguf_, OfModel(TensorRole::kTokenEmbd));
    w.output_norm.weight = LoadVector(OfModel(TensorRole::kOutputNorm));
    if (config_.has_encoder()) {
      w.encoder_norm.weight = LoadVector(OfModel(TensorRole::kEncoderNorm));
    }
    LoadOptional(TensorRole::kOutputNormBias, &w.output_norm.bias);
    LoadOptional(TensorRole::kOutputBias, &w.output.bias);
    const TensorView table = w.token_embd;
    // A queued device keeps the head in its own form; rows of the embedding table go there one by
    // one.
    const bool shared = config_.tied_output && !fast_.queued();
    const auto head = [&] {
      return config_.tied_output ? table : RequireWeights(gguf_, OfModel(TensorRole::kOutput));
    };
    w.output.w = shared ? table : Place(head());
    w.token_embd = PlaceTable(table);
    if (config_.learned_positions) {
      w.position_embd = PlaceTable(RequireWeights(gguf_, OfModel(TensorRole::kPositionEmbd)));
    }
    LoadBeside();
    w.layers.resize(static_cast<size_t>(config_.n_layers));
    out_->neuron_orders.resize(w.layers.size());
    for (int64_t l = 0; l < config_.n_layers; ++l) {
      ThrowIfInterrupted();
      Report(options_.progress, "loading layers", static_cast<uint64_t>(l),
             static_cast<uint64_t>(config_.n_layers));
      LoadFixed(l);
      LoadFfn(l);
    }
    Report(options_.progress, "loading layers", static_cast<uint64_t>(config_.n_layers),
           static_cast<uint64_t>(config_.n_layers));
    if (squared_weights_ > 0) {
      out_->requant.relative_rms_error = std::sqrt(squared_error_ / squared_weights_);
    }
    return std::move(out_);
  }

 private:
  using Floats = std::vector<float>;
  using NeuronVector = const float* FfnSlice::*;

  // What the file holds of a layer's neurons, in its own order.
  struct FileNeurons {
    int64_t n_neurons = 0;
    FileFfn ffn;
    bool is_gated() const { return ffn.up.rows > 0; }
    std::vector<std::pair<NeuronVector, Floats>> vectors;  // each (n_neurons)
  };

  ModelTensor OfModel(TensorRole role) const { return TensorOf(family_.tensors, role, config_); }

  // Loads a vector of the model where its family has one and the file has it.
  void LoadOptional(TensorRole role, const float** vector) {
    const auto row = std::ranges::find(family_.tensors, role, &TensorRow::role);
    if (row == family_.tensors.end() || gguf_.FindTensor(row->name) == nullptr) return;
    *vector = LoadVector(OfModel(role));
  }

  // What a model has of its layers' own embeddings and of several streams.
  void LoadBeside() {
    ModelWeights& w = out_->weights;
    if (config_.layer_embd_dim > 0) {
      w.layer_embd = PlaceTable(RequireWeights(gguf_, OfModel(TensorRole::kLayerEmbd)));
      w.layer_embd_proj.w = Place(RequireWeights(gguf_, OfModel(TensorRole::kLayerEmbdProj)));
      w.layer_embd_norm.weight = LoadVector(OfModel(TensorRole::kLayerEmbdNorm));
    }
    if (!config_.streams.several()) return;
    LoadStreams(TensorRole::kToStreams, &w.to_streams);
    LoadStreams(TensorRole::kFromStreams, &w.from_streams);
  }

  // One matrix for each stream but the first.
  void LoadStreams(TensorRole role, std::vector<LinearWeights>* matrices) {
    const TensorView all = Place(RequireWeights(gguf_, OfModel(role)));
    const int64_t d = config_.d_model;
    for (int64_t i = 1; i < config_.streams.n; ++i) {
      matrices->push_back({all.SliceRows((i - 1) * d, i * d), nullptr});
    }
  }

  // Values are normalised without weights.
  const float* OnesOfHead(size_t tier) {
    if (ones_[tier] == nullptr) {
      const Floats ones(static_cast<size_t>(config_.head_dim), 1.0F);
      ones_[tier] = UploadVector(ones, "the norm of values", *tiers_[tier]);
    }
    return ones_[tier];
  }

  // Small F32 vectors are used in place; other types are widened into memory of the tier's device.
  const float* LoadVector(const ModelTensor& tensor, size_t tier = 0) {
    const TensorView view = RequireWeights(gguf_, tensor);
    const bool aligned = reinterpret_cast<uintptr_t>(view.data) % alignof(float) == 0;
    if (view.dtype == DType::kF32 && aligned && !tiers_[tier]->queued()) {
      return reinterpret_cast<const float*>(Mapped(view, tier).data);
    }
    return UploadVector(Widened(view), tensor.name, *tiers_[tier]);
  }

  static Floats Widened(const TensorView& vector) {
    Floats values(static_cast<size_t>(vector.rows * vector.cols));
    for (int64_t r = 0; r < vector.rows; ++r) {
      CpuKernels().dequantize_f32(vector.dtype, vector.row(r), 0, vector.cols,
                                  values.data() + r * vector.cols);
    }
    return values;
  }

  // The same view, counted as what the tier reads where the file has it.
  TensorView Mapped(const TensorView& file, size_t tier) {
    out_->mapped_bytes[tier] +=
        static_cast<uint64_t>(file.rows) * static_cast<uint64_t>(RowBytes(file.dtype, file.cols));
    return file;
  }

  // A table of which a token reads a row: a queued device has the host keep it.
  TensorView PlaceTable(const TensorView& file) {
    return fast_.queued() != nullptr ? fast_.queued()->StoreTable(file) : Mapped(file, 0);
  }

  // A matrix of the file as a tier's device reads it: in the mapping, or in memory of its own.
  TensorView Place(const TensorView& file, size_t tier = 0) {
    Device& device = *tiers_[tier];
    if (!options_.copy_weights && !device.queued()) return Mapped(file, tier);
    const TensorView stored = device.StoreRows(file, {}, "weights");
    gguf_.ReleasePages(file);
    return stored;
  }

  static bool IsAttention(TensorRole role) {
    return role == TensorRole::kWq || role == TensorRole::kWk || role == TensorRole::kWv ||
           role == TensorRole::kWo;
  }

  // Rows of a matrix in memory, or of the file, with a row per channel of its input, in a device's
  // memory.
  TensorView ByColumn(const TensorView& rows, Device& device) {
    const DType stored = DownTypeOf(rows.dtype, rows.rows, options_.down);
    const int64_t bytes = RowBytes(stored, rows.rows);
    const auto n_bytes = static_cast<uint64_t>(bytes * rows.cols);
    std::vector<int32_t> identity(static_cast<size_t>(rows.cols));
    std::iota(identity.begin(), identity.end(), 0);
    const bool queued = device.queued() != nullptr;
    if (queued && by_column_.size() < n_bytes) by_column_ = AlignedBuffer(n_bytes, "loading");
    auto* const memory =
        queued ? by_column_.bytes()
               : static_cast<std::byte*>(device.Allocate(n_bytes, "matrices by column"));
    Account(rows, TransposeDown(rows, identity, stored, memory, bytes, options_.n_threads));
    const TensorView turned = DenseView(memory, stored, rows.cols, rows.rows);
    return queued ? device.StoreRows(turned, {}, "matrices by column") : turned;
  }
  // Of a whole matrix of the file, on a tier's device.
  TensorView ByColumn(const TensorView& file, size_t tier = 0) {
    const TensorView turned = ByColumn(file, *tiers_[tier]);
    gguf_.ReleasePages(file);
    return turned;
  }

  const float* UploadVector(const Floats& values, const std::string& name, Device& device) {
    const uint64_t n_bytes = values.size() * sizeof(float);
    void* memory = device.Allocate(n_bytes, name);
    device.Upload(memory, values.data(), n_bytes);
    return static_cast<const float*>(memory);
  }

  // What lies on a tier whole: attention where the placement has it, norms on the fast one.
  void LoadFixed(int64_t layer) {
    LayerWeights& w = out_->weights.layers[static_cast<size_t>(layer)];
    const AttentionConfig& attention = config_.layer(layer).attention;
    if (options_.placement != nullptr) {
      w.attention_tier = options_.placement->layers[static_cast<size_t>(layer)].attention;
      CHECK(w.attention_tier < tiers_.size());
    }
    if (attention.v_norm && attention.has_own_kv()) w.v_norm.weight = OnesOfHead(w.attention_tier);
    ForEachLayerTensor(gguf_, family_.tensors, config_, layer,
                       [&](const ModelTensor& tensor, const GgufTensorInfo* /*info*/) {
                         const TensorRow& row = *tensor.row;
                         if (tensor.unused) return;
                         const size_t tier = row.goes_with_attention() ? w.attention_tier : 0;
                         if (row.vector != nullptr) w.*row.vector = LoadVector(tensor, tier);
                         if (row.norm != nullptr) (w.*row.norm).weight = LoadVector(tensor, tier);
                         if (row.norm_bias_of != nullptr) {
                           (w.*row.norm_bias_of).bias = LoadVector(tensor, tier);
                         }
                         if (row.bias_of != nullptr) {
                           (w.*row.bias_of).bias = LoadVector(tensor, tier);
                         }
                         if (row.role == TensorRole::kRelativeBias) {
                           w.relative_bias = LoadRelativeBias(tensor);
                         }
                         if (row.matrix == nullptr) return;
                         const TensorView file = RequireWeights(gguf_, tensor);
                         const bool stored = config_.by_column && IsStoredByColumn(row.role);
                         const bool turned =
                             options_.columns.attention && IsAttention(row.role) && !stored;
                         (w.*row.matrix).w = turned ? ByColumn(file, tier) : Place(file, tier);
                         (w.*row.matrix).by_column = stored || turned;
                       });
    const int64_t first = config_.in_encoder(layer) ? 0 : config_.n_encoder_layers;
    if (w.relative_bias == nullptr) {
      w.relative_bias = out_->weights.layers[static_cast<size_t>(first)].relative_bias;
    }
  }

  // Spreads a bias by bucket out by distance.
  const float* LoadRelativeBias(const ModelTensor& tensor) {
    return UploadVector(BiasByDistance(config_.layer(tensor.layer).attention.relative,
                                       config_.in_encoder(tensor.layer),
                                       Widened(RequireWeights(gguf_, tensor)), tensor.cols),
                        tensor.name, fast_);
  }

  FileNeurons ReadNeurons(int64_t layer) const {
    FileNeurons file{config_.d_ff_of(layer), ReadFileFfn(gguf_, family_, config_, layer), {}};
    ForEachLayerTensor(gguf_, family_.tensors, config_, layer,
                       [&](const ModelTensor& tensor, const GgufTensorInfo* /*info*/) {
                         if (tensor.row->neuron_vector == nullptr) return;
                         file.vectors.emplace_back(tensor.row->neuron_vector,
                                                   Widened(RequireWeights(gguf_, tensor)));
                       });
    return file;
  }

  void LoadFfn(int64_t layer) {
    const FileNeurons file = ReadNeurons(layer);
    std::vector<FfnSlice>& slices = out_->weights.layers[static_cast<size_t>(layer)].slices;
    slices.resize(tiers_.size());
    if (options_.placement == nullptr) {
      LoadWholeFfn(layer, file, &slices.front());
      return;
    }
    const LayerPlacement& p = options_.placement->layers[static_cast<size_t>(layer)];
    CHECK(static_cast<int64_t>(p.neuron_order.size()) == file.n_neurons);
    out_->neuron_orders[static_cast<size_t>(layer)] = p.neuron_order;
    if (packed_) CheckPackedOrder(layer, p);
    int64_t end = 0;
    for (size_t tier = 0; tier < std::min(tiers_.size(), p.n_on.size()); ++tier) {
      const int64_t begin = end;
      end += p.n_on[tier];
      if (config_.by_column || options_.columns.ffn) {
        ColumnFfn(layer, file, begin, end, *tiers_[tier], &slices[tier]);
      } else if (packed_) {
        SlicePacked(layer, file, begin, end, tier, &slices[tier]);
      } else {
        CopyFfn(layer, file, begin, end, *tiers_[tier], &slices[tier]);
      }
    }
    CHECK(end == file.n_neurons);
    if (!packed_) {
      for (const TensorView* copied : {&file.ffn.gate, &file.ffn.up, &file.ffn.down}) {
        if (copied->rows > 0) gguf_.ReleasePages(*copied);
      }
    }
  }

  // Biases of a slice. ids: which of the file's neurons; empty: all of them.
  void UploadVectors(const FileNeurons& file, std::span<const int32_t> ids, Device& device,
                     FfnSlice* slice) {
    for (const auto& [member, values] : file.vectors) {
      Floats own;
      for (const int32_t id : ids) own.push_back(values[static_cast<size_t>(id)]);
      slice->*member = UploadVector(ids.empty() ? values : own, "neurons' biases", device);
    }
  }

  // All neurons on the fast device, in file order; only a stock file's down may have to be rebuilt.
  void LoadWholeFfn(int64_t layer, const FileNeurons& file, FfnSlice* slice) {
    slice->n_neurons = file.n_neurons;
    slice->by_column = config_.by_column || options_.columns.ffn;
    const auto place = [&](const TensorView& w) {
      return slice->by_column && !config_.by_column ? ByColumn(w) : Place(w);
    };
    slice->gate = place(file.ffn.gate);
    if (file.is_gated()) slice->up = place(file.ffn.up);
    slice->down_layout = file.ffn.layout;
    UploadVectors(file, {}, fast_, slice);
    const DownLayout wanted = options_.down.LayoutOf(config_.layer(layer).ffn);
    if (file.ffn.layout == DownLayout::kPerNeuron || wanted == DownLayout::kStock) {
      slice->down = Place(file.ffn.down);
      return;
    }
    std::vector<int32_t> identity(static_cast<size_t>(file.n_neurons));
    std::iota(identity.begin(), identity.end(), 0);
    slice->down_layout = DownLayout::kPerNeuron;
    if (fast_.queued()) {
      slice->down = fast_.StoreRows(Transposed(file, identity), {}, "down projections");
    } else {
      const DType stored = DownType(file.ffn);
      const int64_t bytes = RowBytes(stored, config_.d_model);
      auto* memory = static_cast<std::byte*>(
          fast_.Allocate(static_cast<uint64_t>(bytes * file.n_neurons), "down projections"));
      Account(file.ffn.down,
              TransposeDown(file.ffn.down, identity, stored, memory, bytes, options_.n_threads));
      slice->down = DenseView(memory, stored, file.n_neurons, config_.d_model);
    }
    gguf_.ReleasePages(file.ffn.down);
  }

  // A layer's down projection with one row per neuron, in this order; valid until the next call.
  TensorView Transposed(const FileNeurons& file, const std::vector<int32_t>& order) {
    const TensorView& down = file.ffn.down;
    const DType stored = DownType(file.ffn);
    const int64_t bytes = RowBytes(stored, config_.d_model);
    if (transposed_of_ != down.data) {
      const auto n_bytes = static_cast<uint64_t>(bytes * file.n_neurons);
      if (transposed_.size() < n_bytes) transposed_ = AlignedBuffer(n_bytes, "loading");
      Account(down,
              TransposeDown(down, order, stored, transposed_.bytes(), bytes, options_.n_threads));
      transposed_of_ = down.data;
    }
    return DenseView(transposed_.bytes(), stored, file.n_neurons, config_.d_model);
  }

  // Neurons [begin, end) of the placement's order, copied to a device: gate rows, up rows, down
  // rows. Not side by side: a dense pass goes over the up rows first, and memory gives every other
  // row at two thirds of its rate.
  void CopyFfn(int64_t layer, const FileNeurons& file, int64_t begin, int64_t end, Device& device,
               FfnSlice* slice) {
    if (begin == end) return;
    const auto& order = out_->neuron_orders[static_cast<size_t>(layer)];
    const int64_t n = end - begin;
    if (device.queued()) return StoreFfn(layer, file, begin, end, device, slice);
    const int64_t gate_bytes = RowBytes(file.ffn.gate.dtype, config_.d_model);
    const int64_t up_bytes =
        file.is_gated() ? RowBytes(file.ffn.up.dtype, config_.d_model) : int64_t{0};
    const DType down = DownType(file.ffn);
    const auto allocate = [&](int64_t row_bytes, const char* what) {
      return static_cast<std::byte*>(device.Allocate(static_cast<uint64_t>(n * row_bytes), what));
    };
    std::byte* const gate = allocate(gate_bytes, "gate projections");
    std::byte* const up = file.is_gated() ? allocate(up_bytes, "up projections") : nullptr;
    std::byte* const rows = allocate(RowBytes(down, config_.d_model), "down projections");
    for (int64_t i = 0; i < n; ++i) {
      const int32_t id = order[static_cast<size_t>(begin + i)];
      device.Upload(gate + i * gate_bytes, file.ffn.gate.row(id),
                    static_cast<uint64_t>(gate_bytes));
      if (!file.is_gated()) continue;
      device.Upload(up + i * up_bytes, file.ffn.up.row(id), static_cast<uint64_t>(up_bytes));
    }
    CopyDown(file, order, begin, end, rows, device);
    slice->n_neurons = n;
    slice->gate = DenseView(gate, file.ffn.gate.dtype, n, config_.d_model);
    if (file.is_gated()) slice->up = DenseView(up, file.ffn.up.dtype, n, config_.d_model);
    slice->down = DenseView(rows, down, n, config_.d_model);
    slice->neuron_ids = order.data() + begin;
    UploadVectors(file, {slice->neuron_ids, static_cast<size_t>(n)}, device, slice);
  }

  // The transposed down of a whole layer is built once in host memory and its rows handed out.
  void CopyDown(const FileNeurons& file, const std::vector<int32_t>& order, int64_t begin,
                int64_t end, std::byte* out, Device& device) {
    const TensorView& down = file.ffn.down;
    const int64_t bytes = RowBytes(DownType(file.ffn), config_.d_model);
    if (file.ffn.layout == DownLayout::kPerNeuron) {
      for (int64_t i = begin; i < end; ++i) {
        device.Upload(out + (i - begin) * bytes, down.row(order[static_cast<size_t>(i)]),
                      static_cast<uint64_t>(bytes));
      }
      return;
    }
    const TensorView transposed = Transposed(file, order);
    for (int64_t i = begin; i < end; ++i) {
      device.Upload(out + (i - begin) * bytes, transposed.row(i), static_cast<uint64_t>(bytes));
    }
  }

  // Copies them to a device with a form of its own.
  void StoreFfn(int64_t layer, const FileNeurons& file, int64_t begin, int64_t end, Device& device,
                FfnSlice* slice) {
    const auto& order = out_->neuron_orders[static_cast<size_t>(layer)];
    const std::span<const int32_t> ids(order.data() + begin, static_cast<size_t>(end - begin));
    slice->n_neurons = end - begin;
    slice->gate = device.StoreRows(file.ffn.gate, ids, "gate projections");
    if (file.is_gated()) slice->up = device.StoreRows(file.ffn.up, ids, "up projections");
    slice->down = file.ffn.layout == DownLayout::kPerNeuron
                      ? device.StoreRows(file.ffn.down, ids, "down projections")
                      : device.StoreRows(Transposed(file, order).SliceRows(begin, end), {},
                                         "down projections");
    slice->neuron_ids = ids.data();
    UploadVectors(file, ids, device, slice);
  }

  // Neurons [begin, end) of the placement's order whose gates and ups lie by column: each slice's
  // by themselves. Of a file that is stored so a layer lies whole on one tier, in its own order.
  void ColumnFfn(int64_t layer, const FileNeurons& file, int64_t begin, int64_t end, Device& device,
                 FfnSlice* slice) {
    if (begin == end) return;
    const auto& order = out_->neuron_orders[static_cast<size_t>(layer)];
    slice->neuron_ids = order.data() + begin;
    // Which of the file's rows: a packed file is in the placement's order already.
    std::vector<int32_t> ids(order.begin() + begin, order.begin() + end);
    if (packed_) std::iota(ids.begin(), ids.end(), static_cast<int32_t>(begin));
    CHECK(!config_.by_column || (end - begin == file.n_neurons && std::ranges::is_sorted(ids)));
    const auto store = [&](const TensorView& w) {
      if (config_.by_column) return device.StoreRows(w, {}, "matrices by column");
      const int64_t bytes = RowBytes(w.dtype, w.cols);
      AlignedBuffer rows(static_cast<uint64_t>(bytes) * ids.size(), "loading");
      for (size_t i = 0; i < ids.size(); ++i) {
        std::memcpy(rows.bytes() + static_cast<int64_t>(i) * bytes, w.row(ids[i]),
                    static_cast<size_t>(bytes));
      }
      return ByColumn(DenseView(rows.bytes(), w.dtype, end - begin, w.cols), device);
    };
    slice->n_neurons = end - begin;
    slice->by_column = true;
    slice->gate = store(file.ffn.gate);
    if (file.is_gated()) slice->up = store(file.ffn.up);
    slice->down = file.ffn.layout == DownLayout::kPerNeuron
                      ? device.StoreRows(file.ffn.down, ids, "down projections")
                      : device.StoreRows(Transposed(file, order).SliceRows(begin, end), {},
                                         "down projections");
    UploadVectors(file, ids, device, slice);
  }

  // The type of a neuron's row of down: the file's own, where it has such rows.
  DType DownType(const FileFfn& ffn) const {
    if (ffn.layout == DownLayout::kPerNeuron) return ffn.down.dtype;
    return DownTypeOf(ffn.down.dtype, config_.d_model, options_.down);
  }

  // A packed file is in placement order already: a slice is a run of its rows.
  void SlicePacked(int64_t layer, const FileNeurons& file, int64_t begin, int64_t end, size_t tier,
                   FfnSlice* slice) {
    if (begin == end) return;
    Device& device = *tiers_[tier];
    const auto store = [&](const TensorView& rows, const char* purpose) {
      const bool copies = device.queued() != nullptr || options_.movable_neurons;
      if (!copies) return Mapped(rows, tier);
      const TensorView stored = device.StoreRows(rows, {}, purpose);
      if (options_.movable_neurons) gguf_.ReleasePages(rows);
      return stored;
    };
    slice->n_neurons = end - begin;
    slice->gate = store(file.ffn.gate.SliceRows(begin, end), "gate projections");
    if (file.is_gated()) slice->up = store(file.ffn.up.SliceRows(begin, end), "up projections");
    slice->down = store(file.ffn.down.SliceRows(begin, end), "down projections");
    slice->neuron_ids = out_->neuron_orders[static_cast<size_t>(layer)].data() + begin;
    std::vector<int32_t> rows(static_cast<size_t>(end - begin));
    std::iota(rows.begin(), rows.end(), static_cast<int32_t>(begin));
    UploadVectors(file, rows, device, slice);
  }

  void CheckPackedOrder(int64_t layer, const LayerPlacement& placement) const {
    const ModelTensor tensor = TensorOf(family_.tensors, TensorRole::kNeuronOrder, config_, layer);
    const TensorView view = gguf_.RequireMatrix(tensor.name, tensor.rows, tensor.cols);
    RequireDType(gguf_, tensor.name, view, DType::kI32);
    if (std::memcmp(view.data, placement.neuron_order.data(),
                    placement.neuron_order.size() * sizeof(int32_t)) != 0) {
      throw Error(
          {.path = options_.placement->path,
           .what = fmt::format("layer {} has another neuron order than the packed model", layer),
           .hint = "use the placement the model was packed with, or pack it again"});
    }
  }

  void Account(const TensorView& down, const RequantReport& report) {
    if (!report.requantised) return;
    const auto weights = static_cast<double>(down.rows * down.cols);
    out_->requant.requantised = true;
    squared_error_ += weights * report.relative_rms_error * report.relative_rms_error;
    squared_weights_ += weights;
  }

  const GgufReader& gguf_;
  const Family& family_;
  const ModelConfig& config_;
  const LoadOptions& options_;
  std::span<Device* const> tiers_;
  Device& fast_;
  bool packed_;
  std::unique_ptr<LoadedWeights> out_;
  AlignedBuffer by_column_;  // a matrix on its way to a device with memory of its own
  AlignedBuffer transposed_;
  const std::byte* transposed_of_ = nullptr;
  std::vector<const float*> ones_;  // by tier: (head_dim), or null
  double squared_error_ = 0;
  double squared_weights_ = 0;
};

}  // namespace

std::unique_ptr<LoadedWeights> LoadWeights(const GgufReader& gguf, const Family& family,
                                           const ModelConfig& config, const LoadOptions& options,
                                           std::span<Device* const> tiers) {
  CheckTensors(gguf, family, config);
  return Loader(gguf, family, config, options, tiers).Load();
}

}  // namespace thermocline
