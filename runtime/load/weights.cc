#include "runtime/load/weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"
#include "runtime/gguf/own_files.h"
#include "runtime/model/stored_ffn.h"

namespace thermocline {
namespace {

class Loader {
 public:
  Loader(const GgufReader& gguf, const Family& family, const ModelConfig& config,
         const LoadOptions& options, Device& fast, Device* slow)
      : gguf_(gguf),
        names_(family.names),
        config_(config),
        options_(options),
        fast_(fast),
        slow_(slow),
        packed_(IsPacked(gguf)) {}

  std::unique_ptr<LoadedWeights> Load() {
    out_ = std::make_unique<LoadedWeights>();
    ModelWeights& w = out_->weights;
    w.token_embd =
        RequireWeights(gguf_, std::string(names_.token_embd), config_.vocab_size, config_.d_model);
    w.output_norm = LoadVector(std::string(names_.output_norm), config_.d_model);
    const TensorView table = w.token_embd;
    // A queued device keeps the head in its own form; rows of the embedding table go there one by
    // one.
    const bool shared = config_.tied_output && !fast_.queued();
    const auto head = [&] {
      return config_.tied_output ? table
                                 : RequireWeights(gguf_, std::string(names_.output),
                                                  config_.vocab_size, config_.d_model);
    };
    w.output.w = shared ? table : Place(head());
    if (fast_.queued() != nullptr) w.token_embd = fast_.queued()->StoreTable(table);
    w.layers.resize(static_cast<size_t>(config_.n_layers));
    out_->neuron_orders.resize(w.layers.size());
    for (int64_t l = 0; l < config_.n_layers; ++l) {
      ThrowIfInterrupted();
      Report(options_.progress, "loading layers", static_cast<uint64_t>(l),
             static_cast<uint64_t>(config_.n_layers));
      LoadAttention(l);
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
  // Small F32 vectors are used in place; other types are widened into memory of the fast device.
  const float* LoadVector(const std::string& name, int64_t n) {
    const TensorView view = RequireWeights(gguf_, name, 1, n);
    const bool aligned = reinterpret_cast<uintptr_t>(view.data) % alignof(float) == 0;
    if (view.dtype == DType::kF32 && aligned && !fast_.queued()) {
      return reinterpret_cast<const float*>(view.data);
    }
    std::vector<float> values(static_cast<size_t>(n));
    CpuKernels().dequantize_f32(view.dtype, view.data, 0, n, values.data());
    return UploadVector(values, name, fast_);
  }

  // A matrix of the file as the fast device reads it: in the mapping, or in memory of its own.
  TensorView Place(const TensorView& file) {
    if (!options_.copy_weights && !fast_.queued()) return file;
    const TensorView stored = fast_.StoreRows(file, {}, "weights");
    gguf_.ReleasePages(file);
    return stored;
  }

  const float* UploadVector(const std::vector<float>& values, const std::string& name,
                            Device& device) {
    const uint64_t n_bytes = values.size() * sizeof(float);
    void* memory = device.Allocate(n_bytes, name);
    device.Upload(memory, values.data(), n_bytes);
    return static_cast<const float*>(memory);
  }

  const float* LoadBias(std::string_view pattern, int64_t layer, int64_t n) {
    const std::string name = LayerTensorName(pattern, layer);
    return gguf_.FindTensor(name) == nullptr ? nullptr : LoadVector(name, n);
  }

  void LoadAttention(int64_t layer) {
    LayerWeights& w = out_->weights.layers[static_cast<size_t>(layer)];
    const auto linear = [&](std::string_view weight, std::string_view bias, int64_t d_out,
                            int64_t d_in) {
      return LinearWeights{
          Place(RequireWeights(gguf_, LayerTensorName(weight, layer), d_out, d_in)),
          LoadBias(bias, layer, d_out)};
    };
    const int64_t d = config_.d_model;
    w.attn_norm = LoadVector(LayerTensorName(names_.attn_norm, layer), d);
    w.wq = linear(names_.wq, names_.wq_bias, config_.q_dim(), d);
    w.wk = linear(names_.wk, names_.wk_bias, config_.kv_dim(), d);
    w.wv = linear(names_.wv, names_.wv_bias, config_.kv_dim(), d);
    w.wo = linear(names_.wo, names_.wo_bias, d, config_.q_dim());
    w.ffn_norm = LoadVector(LayerTensorName(names_.ffn_norm, layer), d);
  }

  void LoadFfn(int64_t layer) {
    const FileFfn file = ReadFileFfn(gguf_, names_, config_, layer);
    LayerWeights& w = out_->weights.layers[static_cast<size_t>(layer)];
    std::vector<float> bias = ReadGateBias(layer);
    if (options_.placement == nullptr) {
      LoadWholeFfn(layer, file, bias, &w.hot);
      return;
    }
    const LayerPlacement& p = options_.placement->layers[static_cast<size_t>(layer)];
    const bool cold = p.n_vram < config_.d_ff;
    CHECK(p.n_nvme == 0 && (slow_ != nullptr || !cold));
    out_->neuron_orders[static_cast<size_t>(layer)] = p.neuron_order;
    if (packed_) {
      CheckPackedOrder(layer, p);
      SlicePacked(layer, file, bias, 0, p.n_vram, fast_, &w.hot);
      if (cold) SlicePacked(layer, file, bias, p.n_vram, config_.d_ff, *slow_, &w.cold);
    } else {
      CopyFfn(layer, file, bias, 0, p.n_vram, fast_, &w.hot);
      if (cold) CopyFfn(layer, file, bias, p.n_vram, config_.d_ff, *slow_, &w.cold);
      for (const TensorView* copied : {&file.gate, &file.up, &file.down}) {
        gguf_.ReleasePages(*copied);
      }
    }
  }

  std::vector<float> ReadGateBias(int64_t layer) const {
    const std::string name = LayerTensorName(names_.gate_bias, layer);
    if (gguf_.FindTensor(name) == nullptr) return {};
    const TensorView view = RequireWeights(gguf_, name, 1, config_.d_ff);
    std::vector<float> bias(static_cast<size_t>(config_.d_ff));
    CpuKernels().dequantize_f32(view.dtype, view.data, 0, config_.d_ff, bias.data());
    return bias;
  }

  // All neurons on the fast device, in file order; only a stock file's down may have to be rebuilt.
  void LoadWholeFfn(int64_t layer, const FileFfn& file, const std::vector<float>& bias,
                    FfnSlice* slice) {
    slice->n_neurons = config_.d_ff;
    slice->gate = Place(file.gate);
    slice->up = Place(file.up);
    slice->down_layout = file.layout;
    if (!bias.empty()) slice->gate_bias = UploadVector(bias, "gate biases", fast_);
    if (file.layout == DownLayout::kPerNeuron || options_.down_layout == DownLayout::kStock) {
      slice->down = Place(file.down);
      return;
    }
    std::vector<int32_t> identity(static_cast<size_t>(config_.d_ff));
    std::iota(identity.begin(), identity.end(), 0);
    slice->down_layout = DownLayout::kPerNeuron;
    if (fast_.queued()) {
      slice->down = fast_.StoreRows(Transposed(layer, file, identity), {}, "down projections");
    } else {
      const int64_t bytes = DownRowBytes(layer, file.down);
      auto* memory = static_cast<std::byte*>(
          fast_.Allocate(static_cast<uint64_t>(bytes * config_.d_ff), "down projections"));
      Account(file.down, TransposeDown(file.down, identity, memory, bytes, options_.n_threads));
      slice->down = DenseView(memory, file.down.dtype, config_.d_ff, config_.d_model);
    }
    gguf_.ReleasePages(file.down);
  }

  // A layer's down projection with one row per neuron, in this order; valid until the next call.
  TensorView Transposed(int64_t layer, const FileFfn& file, const std::vector<int32_t>& order) {
    const TensorView& down = file.down;
    const int64_t bytes = DownRowBytes(layer, down);
    if (transposed_of_ != down.data) {
      if (transposed_.size() == 0) {
        transposed_ = AlignedBuffer(static_cast<uint64_t>(bytes * config_.d_ff), "loading");
      }
      Account(down, TransposeDown(down, order, transposed_.bytes(), bytes, options_.n_threads));
      transposed_of_ = down.data;
    }
    return DenseView(transposed_.bytes(), down.dtype, config_.d_ff, config_.d_model);
  }

  // Neurons [begin, end) of the placement's order, copied to a device: gate rows, and up and down
  // rows side by side.
  void CopyFfn(int64_t layer, const FileFfn& file, const std::vector<float>& bias, int64_t begin,
               int64_t end, Device& device, FfnSlice* slice) {
    if (begin == end) return;
    const auto& order = out_->neuron_orders[static_cast<size_t>(layer)];
    const int64_t n = end - begin;
    if (device.queued()) return StoreFfn(layer, file, bias, begin, end, device, slice);
    const int64_t gate_bytes = RowBytes(file.gate.dtype, config_.d_model);
    const int64_t up_bytes = RowBytes(file.up.dtype, config_.d_model);
    const int64_t stride = up_bytes + DownRowBytes(layer, file.down);
    auto* gate = static_cast<std::byte*>(
        device.Allocate(static_cast<uint64_t>(n * gate_bytes), "gate projections"));
    auto* up_down = static_cast<std::byte*>(
        device.Allocate(static_cast<uint64_t>(n * stride), "up and down projections"));
    std::vector<float> slice_bias;
    for (int64_t i = 0; i < n; ++i) {
      const int32_t id = order[static_cast<size_t>(begin + i)];
      device.Upload(gate + i * gate_bytes, file.gate.row(id), static_cast<uint64_t>(gate_bytes));
      device.Upload(up_down + i * stride, file.up.row(id), static_cast<uint64_t>(up_bytes));
      if (!bias.empty()) slice_bias.push_back(bias[static_cast<size_t>(id)]);
    }
    CopyDown(layer, file, order, begin, end, up_down + up_bytes, stride, device);
    slice->n_neurons = n;
    slice->gate = DenseView(gate, file.gate.dtype, n, config_.d_model);
    slice->up = {up_down, file.up.dtype, n, config_.d_model, stride};
    slice->down = {up_down + up_bytes, file.down.dtype, n, config_.d_model, stride};
    slice->neuron_ids = order.data() + begin;
    if (!bias.empty()) slice->gate_bias = UploadVector(slice_bias, "gate biases", device);
  }

  // The transposed down of a whole layer is built once in host memory and its rows handed out.
  void CopyDown(int64_t layer, const FileFfn& file, const std::vector<int32_t>& order,
                int64_t begin, int64_t end, std::byte* out, int64_t stride, Device& device) {
    const TensorView& down = file.down;
    const int64_t bytes = RowBytes(down.dtype, config_.d_model);
    if (file.layout == DownLayout::kPerNeuron) {
      for (int64_t i = begin; i < end; ++i) {
        device.Upload(out + (i - begin) * stride, down.row(order[static_cast<size_t>(i)]),
                      static_cast<uint64_t>(bytes));
      }
      return;
    }
    const TensorView transposed = Transposed(layer, file, order);
    for (int64_t i = begin; i < end; ++i) {
      device.Upload(out + (i - begin) * stride, transposed.row(i), static_cast<uint64_t>(bytes));
    }
  }

  // The same for a device with a form of its own.
  void StoreFfn(int64_t layer, const FileFfn& file, const std::vector<float>& bias, int64_t begin,
                int64_t end, Device& device, FfnSlice* slice) {
    const auto& order = out_->neuron_orders[static_cast<size_t>(layer)];
    const std::span<const int32_t> ids(order.data() + begin, static_cast<size_t>(end - begin));
    slice->n_neurons = end - begin;
    slice->gate = device.StoreRows(file.gate, ids, "gate projections");
    slice->up = device.StoreRows(file.up, ids, "up projections");
    slice->down = file.layout == DownLayout::kPerNeuron
                      ? device.StoreRows(file.down, ids, "down projections")
                      : device.StoreRows(Transposed(layer, file, order).SliceRows(begin, end), {},
                                         "down projections");
    slice->neuron_ids = ids.data();
    if (bias.empty()) return;
    std::vector<float> slice_bias;
    for (const int32_t id : ids) slice_bias.push_back(bias[static_cast<size_t>(id)]);
    slice->gate_bias = UploadVector(slice_bias, "gate biases", device);
  }

  int64_t DownRowBytes(int64_t layer, const TensorView& down) const {
    if (config_.d_model % GetDTypeInfo(down.dtype).block_elems != 0) {
      throw Error(
          {.path = gguf_.path(),
           .what =
               fmt::format("{} cannot be stored per neuron", LayerTensorName(names_.w_down, layer)),
           .expected = fmt::format("d_model a multiple of {} for {}",
                                   GetDTypeInfo(down.dtype).block_elems, DTypeName(down.dtype)),
           .found = std::to_string(config_.d_model),
           .hint = "use --sparse dense without a placement, or an F16 model"});
    }
    return RowBytes(down.dtype, config_.d_model);
  }

  // A packed file is in placement order already: a slice is a run of its rows.
  void SlicePacked(int64_t layer, const FileFfn& file, const std::vector<float>& bias,
                   int64_t begin, int64_t end, Device& device, FfnSlice* slice) {
    if (begin == end) return;
    const auto store = [&](const TensorView& rows, const char* purpose) {
      return device.queued() ? device.StoreRows(rows, {}, purpose) : rows;
    };
    slice->n_neurons = end - begin;
    slice->gate = store(file.gate.SliceRows(begin, end), "gate projections");
    slice->up = store(file.up.SliceRows(begin, end), "up projections");
    slice->down = store(file.down.SliceRows(begin, end), "down projections");
    slice->neuron_ids = out_->neuron_orders[static_cast<size_t>(layer)].data() + begin;
    if (!bias.empty()) {
      slice->gate_bias =
          UploadVector({bias.begin() + begin, bias.begin() + end}, "gate biases", device);
    }
  }

  void CheckPackedOrder(int64_t layer, const LayerPlacement& placement) const {
    const std::string name = LayerTensorName(kPackedOrder, layer);
    const TensorView view = gguf_.RequireMatrix(name, 1, config_.d_ff);
    RequireDType(gguf_, name, view, DType::kI32);
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
  const TensorNames& names_;
  const ModelConfig& config_;
  const LoadOptions& options_;
  Device& fast_;
  Device* slow_;
  bool packed_;
  std::unique_ptr<LoadedWeights> out_;
  AlignedBuffer transposed_;
  const std::byte* transposed_of_ = nullptr;
  double squared_error_ = 0;
  double squared_weights_ = 0;
};

}  // namespace

std::unique_ptr<LoadedWeights> LoadWeights(const GgufReader& gguf, const Family& family,
                                           const ModelConfig& config, const LoadOptions& options,
                                           Device& fast, Device* slow) {
  CheckTensors(gguf, family, config);
  return Loader(gguf, family, config, options, fast, slow).Load();
}

}  // namespace thermocline
