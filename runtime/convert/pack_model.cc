#include "runtime/convert/pack_model.h"

#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <map>

#include "runtime/core/aligned_buffer.h"
#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"
#include "runtime/load/weights.h"
#include "runtime/model/families.h"
#include "runtime/model/stored_ffn.h"
#include "runtime/placement/placement.h"

namespace thermocline {
namespace {

// Returns the smallest type that holds weights of both without rounding them more. For F16 and
// BF16, of which neither holds the other, that is F32. REQUIRES: types of weights.
DType Wider(DType a, DType b) {
  const int precision_a = GetWeightTypeInfo(a).precision;
  const int precision_b = GetWeightTypeInfo(b).precision;
  if (a != b && precision_a == precision_b) return DType::kF32;
  return precision_a >= precision_b ? a : b;
}

class Packer {
 public:
  Packer(const std::string& input, const PackOptions& options)
      : options_(options),
        gguf_(OpenModelFile(input)),
        family_(FindFamily(gguf_)),
        config_(ReadModelConfig(gguf_, family_)),
        placement_(ReadPlacement(options.placement_path)) {
    if (IsPacked(gguf_) || config_.by_column) {
      throw Error({.path = input,
                   .what = "the model is packed already",
                   .hint = "pack from the model it was made of"});
    }
    if (options.rule) chooser_.emplace(gguf_, *options.rule);
    CheckTensors(gguf_, family_, config_);
    CheckPlacementFits(placement_, config_, input, ModelFingerprints(gguf_));
  }

  PackReport Pack(const std::string& output) {
    CheckOutputIsNotInput(gguf_, output);
    PlanItems();
    GgufWriter writer(output, kPackedAlignment);
    CopyMetadata(gguf_, options_.rule, writer);
    writer.Set(kPackedSourceKey, GgufValue::string(gguf_.fingerprint()));
    writer.Set(kPackedPlacementKey,
               GgufValue::string(GgufReader(options_.placement_path).fingerprint()));
    uint64_t total_bytes = 0;
    for (const Item& item : items_) {
      writer.DeclareTensor(item.name, item.dtype, item.dims);
      total_bytes += item.n_bytes();
    }
    TensorCopier copier(writer, total_bytes, options_.n_threads, "packing (MiB)",
                        options_.progress);
    for (const Item& item : items_) item.write(item, copier);
    writer.Finish();
    if (down_weights_ > 0) {
      report_.down_relative_rms_error = std::sqrt(down_squared_error_ / down_weights_);
    }
    return std::move(report_);
  }

 private:
  // A tensor of the packed file and what writes it.
  struct Item {
    std::string name;
    DType dtype = DType::kF32;
    std::vector<uint64_t> dims;
    std::function<void(const Item&, TensorCopier&)> write;

    uint64_t n_bytes() const {
      uint64_t rows = 1;
      for (size_t i = 1; i < dims.size(); ++i) rows *= dims[i];
      return rows * static_cast<uint64_t>(RowBytes(dtype, static_cast<int64_t>(dims[0])));
    }
  };

  // Plans the tensors in the file's order. What has a row or an element per neuron moves with the
  // neurons; the joined up and down stand where up stood.
  void PlanItems() {
    std::map<std::string, std::function<void()>> moved;
    ForEachTensor(gguf_, family_.tensors, config_,
                  [&](const ModelTensor& tensor, const GgufTensorInfo* /*info*/) {
                    const TensorRow& row = *tensor.row;
                    if (row.role == TensorRole::kUp) {
                      moved[tensor.name] = [this, tensor] { PlanUpDown(tensor.layer); };
                    } else if (row.role == TensorRole::kDown || row.role == TensorRole::kDownT) {
                      moved[tensor.name] = [this, tensor] {
                        if (family_.ffn == FfnKind::kPlain) PlanDown(tensor.layer);
                      };
                    } else if (row.role == TensorRole::kDownTBias) {
                      moved[tensor.name] = [this, tensor] { PlanDownBias(tensor); };
                    } else if (row.has_row_per_neuron()) {
                      moved[tensor.name] = [this, tensor] { PlanRows(tensor); };
                    } else if (row.has_element_per_neuron()) {
                      moved[tensor.name] = [this, tensor] { PlanVector(tensor); };
                    } else {
                      CHECK(row.cols != TensorDim::kDFf);  // columns would have to move
                    }
                  });
    for (const GgufTensorInfo& tensor : gguf_.tensors()) {
      const auto own = moved.find(tensor.name);
      if (own != moved.end()) {
        own->second();
      } else {
        PlanCopy(tensor, tensor.name);
      }
    }
  }

  const std::vector<int32_t>& Order(int64_t layer) const {
    return placement_.layers[static_cast<size_t>(layer)].neuron_order;
  }

  DType TypeOf(const GgufTensorInfo& tensor) const {
    return chooser_ ? chooser_->TypeOf(tensor) : tensor.dtype;
  }

  // name: of a tensor, perhaps with the half of it that is meant.
  std::optional<DType> UnfitOf(const std::string& name, int64_t n_cols, DType to) const {
    if (!chooser_) return std::nullopt;
    return chooser_->Unfit(name.substr(0, name.find(' ')), static_cast<uint64_t>(n_cols), to);
  }

  void Tell(const std::string& name, const TensorView& from, DType to, const WeightError& error) {
    report_.changes.push_back(
        {.name = name,
         .from = from.dtype,
         .to = to,
         .from_bytes = from.weight_bytes(),
         .to_bytes = static_cast<uint64_t>(from.rows * from.cols) / GetDTypeInfo(to).block_elems *
                     GetDTypeInfo(to).block_bytes,
         .relative_rms_error = error.relative_rms(),
         .max_abs_error = error.max_abs_error,
         .unfit = UnfitOf(name, from.cols, to)});
  }

  // PowerInfer's name for it is that of the form in which down lies there.
  void PlanDownBias(const ModelTensor& bias) {
    PlanCopy(*gguf_.FindTensor(bias.name), NameOf(TensorRole::kDownBias, bias.layer));
  }

  void PlanCopy(const GgufTensorInfo& tensor, const std::string& name) {
    const auto write = [this, &tensor](const Item& item, TensorCopier& copier) {
      if (item.dtype == tensor.dtype) {
        copier.Copy(item.name, gguf_.TensorData(tensor), tensor.n_bytes);
        return;
      }
      const TensorView view =
          DenseView(gguf_.TensorData(tensor), tensor.dtype, static_cast<int64_t>(tensor.rows()),
                    static_cast<int64_t>(tensor.cols()));
      Tell(item.name, view, item.dtype,
           copier.Convert(item.name, RowsOf(gguf_.path(), tensor.name, view), item.dtype));
    };
    items_.push_back({name, TypeOf(tensor), tensor.dims, write});
  }

  void PlanRows(const ModelTensor& moved) {
    const GgufTensorInfo& info = *gguf_.FindTensor(moved.name);
    const auto write = [this, moved, &info](const Item& item, TensorCopier& copier) {
      const TensorView rows =
          gguf_.RequireMatrix(item.name, moved.rows, static_cast<int64_t>(info.cols()));
      const std::vector<int32_t>& order = Order(moved.layer);
      if (item.dtype == rows.dtype) {
        copier.CopyRows(item.name, rows, order);
        return;
      }
      Tell(item.name, rows, item.dtype,
           copier.Convert(item.name, RowsOf(gguf_.path(), item.name, rows, order.data()),
                          item.dtype));
    };
    items_.push_back({moved.name, TypeOf(info), info.dims, write});
  }

  void PlanVector(const ModelTensor& moved) {
    const auto write = [this, moved](const Item& item, TensorCopier& copier) {
      const TensorView vector = gguf_.RequireMatrix(item.name, 1, moved.cols);
      std::vector<float> values(static_cast<size_t>(moved.cols));
      CpuKernels().dequantize_f32(vector.dtype, vector.data, 0, moved.cols, values.data());
      std::vector<float> sorted;
      for (const int32_t id : Order(moved.layer)) sorted.push_back(values[static_cast<size_t>(id)]);
      copier.Copy(item.name, reinterpret_cast<const std::byte*>(sorted.data()),
                  sorted.size() * sizeof(float));
    };
    items_.push_back({moved.name, DType::kF32, {static_cast<uint64_t>(moved.cols)}, write});
  }

  void PlanUpDown(int64_t layer) {
    const FileFfn ffn = ReadFfn(layer);
    const auto d_model = static_cast<uint64_t>(config_.d_model);
    const DType down_dtype = ffn.layout == DownLayout::kStock
                                 ? DownTypeOf(ffn.down.dtype, config_.d_model, {})
                                 : ffn.down.dtype;
    DType dtype = Wider(ffn.up.dtype, down_dtype);
    bool two_types = ffn.up.dtype != down_dtype;
    if (chooser_) {
      const DType up = chooser_->WantedOf(NameOf(TensorRole::kUp, layer));
      const DType down = chooser_->WantedOf(NameOf(TensorRole::kDown, layer));
      dtype = TypeForRows(dtype, d_model, Wider(up, down));
      two_types = up != down;
    }
    report_.widened = report_.widened || two_types;
    const auto d_ff = static_cast<uint64_t>(config_.d_ff_of(layer));
    items_.push_back({NameOf(TensorRole::kUpDown, layer),
                      dtype,
                      {2 * d_model, d_ff},
                      [this, layer](const Item& item, TensorCopier& copier) {
                        WriteUpDown(layer, item, copier);
                      }});
    PlanOrder(layer);
  }

  void PlanOrder(int64_t layer) {
    items_.push_back({NameOf(TensorRole::kNeuronOrder, layer),
                      DType::kI32,
                      {static_cast<uint64_t>(config_.d_ff_of(layer))},
                      [this, layer](const Item& item, TensorCopier& copier) {
                        copier.Copy(item.name,
                                    reinterpret_cast<const std::byte*>(Order(layer).data()),
                                    Order(layer).size() * sizeof(int32_t));
                      }});
  }

  // A plain FFN has no up rows to lie beside: down has a row per neuron in a tensor of its own.
  void PlanDown(int64_t layer) {
    const FileFfn ffn = ReadFfn(layer);
    const auto d_model = static_cast<uint64_t>(config_.d_model);
    DType dtype = ffn.layout == DownLayout::kStock ? DownTypeOf(ffn.down.dtype, config_.d_model, {})
                                                   : ffn.down.dtype;
    if (chooser_) {
      dtype = TypeForRows(dtype, d_model, chooser_->WantedOf(NameOf(TensorRole::kDown, layer)));
    }
    items_.push_back({NameOf(TensorRole::kDownT, layer),
                      dtype,
                      {d_model, static_cast<uint64_t>(config_.d_ff_of(layer))},
                      [this, layer](const Item& item, TensorCopier& copier) {
                        WriteDown(layer, item, copier);
                      }});
    PlanOrder(layer);
  }

  void WriteDown(int64_t layer, const Item& item, TensorCopier& copier) {
    ThrowIfInterrupted();
    const FileFfn ffn = ReadFfn(layer);
    if (ffn.layout == DownLayout::kPerNeuron) {
      if (ffn.down.dtype == item.dtype) {
        copier.CopyRows(item.name, ffn.down, Order(layer));
      } else {
        Tell(item.name, ffn.down, item.dtype,
             copier.Convert(item.name,
                            RowsOf(gguf_.path(), item.name, ffn.down, Order(layer).data()),
                            item.dtype));
      }
      return;
    }
    if (up_down_.size() < item.n_bytes()) up_down_ = AlignedBuffer(item.n_bytes(), "packing");
    const RequantReport rounded =
        TransposeDown(ffn.down, Order(layer), item.dtype, up_down_.bytes(),
                      RowBytes(item.dtype, config_.d_model), options_.n_threads);
    if (rounded.requantised) TellDown(item, ffn.down, rounded);
    copier.Copy(item.name, up_down_.bytes(), item.n_bytes());
  }

  std::string NameOf(TensorRole role, int64_t layer) const {
    return TensorOf(family_.tensors, role, config_, layer).name;
  }

  FileFfn ReadFfn(int64_t layer) const { return ReadFileFfn(gguf_, family_, config_, layer); }

  void WriteUpDown(int64_t layer, const Item& item, TensorCopier& copier) {
    ThrowIfInterrupted();
    const FileFfn ffn = ReadFfn(layer);
    const int64_t half = RowBytes(item.dtype, config_.d_model);
    if (up_down_.size() < item.n_bytes()) up_down_ = AlignedBuffer(item.n_bytes(), "packing");
    WriteHalf(layer, item, " (up)", ffn.up, up_down_.bytes(), copier);
    if (ffn.layout == DownLayout::kPerNeuron) {
      WriteHalf(layer, item, " (down)", ffn.down, up_down_.bytes() + half, copier);
    } else {
      const RequantReport rounded =
          TransposeDown(ffn.down, Order(layer), item.dtype, up_down_.bytes() + half, 2 * half,
                        options_.n_threads);
      if (rounded.requantised) TellDown(item, ffn.down, rounded);
    }
    copier.Copy(item.name, up_down_.bytes(), item.n_bytes());
  }

  // Writes rows of a matrix with one per neuron, in the placement's order, into every second half
  // row.
  void WriteHalf(int64_t layer, const Item& item, const char* which, const TensorView& rows,
                 std::byte* out, TensorCopier& copier) {
    const std::vector<int32_t>& order = Order(layer);
    const int64_t half = RowBytes(item.dtype, config_.d_model);
    if (rows.dtype == item.dtype) {
      for (int64_t i = 0; i < rows.rows; ++i) {
        std::memcpy(out + 2 * i * half, rows.row(order[static_cast<size_t>(i)]),
                    static_cast<size_t>(half));
      }
      return;
    }
    Tell(item.name + which, rows, item.dtype,
         ConvertRows(RowsOf(gguf_.path(), item.name, rows, order.data()), 0, rows.rows, item.dtype,
                     copier.n_threads(), out, 2 * half));
  }

  void TellDown(const Item& item, const TensorView& down, const RequantReport& rounded) {
    Tell(item.name + " (down)", down, item.dtype, {});
    report_.changes.back().relative_rms_error = rounded.relative_rms_error;
    report_.changes.back().max_abs_error = rounded.max_abs_error;
    report_.changes.back().unfit = UnfitOf(item.name, config_.d_model, item.dtype);
    if (GetDTypeInfo(down.dtype).block_elems == 1) return;
    const auto weights = static_cast<double>(down.rows * down.cols);
    report_.requantised_down = true;
    down_weights_ += weights;
    down_squared_error_ += weights * rounded.relative_rms_error * rounded.relative_rms_error;
  }

  const PackOptions& options_;
  GgufReader gguf_;
  const Family& family_;
  ModelConfig config_;
  Placement placement_;
  std::optional<TypeChooser> chooser_;  // with a rule
  std::vector<Item> items_;
  AlignedBuffer up_down_;
  PackReport report_;
  double down_weights_ = 0;
  double down_squared_error_ = 0;
};

}  // namespace

PackReport PackModel(const std::string& input, const std::string& output,
                     const PackOptions& options) {
  return Packer(input, options).Pack(output);
}

}  // namespace thermocline
