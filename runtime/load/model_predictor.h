// Which predictor a run uses, and how it comes onto the devices. There are three sources: a file
// made by `thermocline predictor`, the predictor inside a PowerInfer model, and the sign bits of
// the model's own gates, which need no file.
//
// With a placement, the neurons of the fastest tier are computed without asking and those of the
// others are predicted; with one tier all are.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "predictor/sign_predictor.h"
#include "runtime/device/device.h"
#include "runtime/gguf/gguf_reader.h"
#include "runtime/model/model.h"
#include "runtime/placement/predictor_file.h"

namespace thermocline {

inline constexpr std::string_view kSignPredictor = "sign";  // stands for a file's path
inline constexpr double kDefaultPredictorRecall = 0.95;

struct LoadedPredictor {
  std::vector<LayerPredictors> layers;           // (n_layers)
  std::vector<std::unique_ptr<SignRows>> signs;  // what they may point to
};

class ModelPredictor {
 public:
  // source: a file, kSignPredictor, or empty for the model's own. Of a file's operating points each
  // layer takes the least dense one with the recall wanted. Throws Error where there is none, or it
  // was made for another model.
  ModelPredictor(const std::string& source, double recall, const GgufReader& gguf,
                 const ModelConfig& config);

  // One line: where it is from, its method, the recall and density it was measured at.
  std::string Description() const;
  int64_t max_rank() const;  // 0: no matrices
  // What its layers read beside the FFN's own input, if anything.
  PredictorInput input() const;
  // The share of a layer's neurons that it names, on its own held-out text; nullopt where it does
  // not say.
  std::optional<double> Density(int64_t layer) const;
  // Bytes of a neuron's row of out_proj; 0: there is none.
  uint64_t OutRowBytes(int64_t layer) const;
  // Memory for n_neurons of a layer.
  uint64_t Bytes(int64_t layer, int64_t n_neurons) const;

  // What a neuron's prediction takes: its row of out_proj, and its bias with the threshold taken
  // into it. In memory of the predictor's file.
  struct NeuronPart {
    const std::byte* out_row = nullptr;
    float bias = 0;
  };
  // Of a layer's channel. REQUIRES: HasNeuronParts().
  NeuronPart PartOf(int64_t layer, int32_t channel) const;
  // Whether it has matrices, with rows that channels can be found by.
  bool HasNeuronParts() const;
  bool IsSign() const { return kind_ == PredictorKind::kSign; }

  // Puts it beside the neurons it predicts. A CPU device's sign bits are memory of the host's.
  // placed: with a placement.
  LoadedPredictor Load(const ModelWeights& weights, std::span<Device* const> tiers, bool placed,
                       int n_threads) const;

 private:
  struct Layer {
    LayerPredictor stored;
    size_t point = 0;
  };

  void OpenFile(const std::string& path, double recall);
  void OpenOwn();
  std::vector<int32_t> StoredRows(int64_t layer, const FfnSlice& slice, int64_t first) const;
  SlicePredictor LoadLayer(int64_t layer, const FfnSlice& slice, int64_t first,
                           Device& device) const;
  SlicePredictor PackSigns(int64_t layer, const FfnSlice& slice, Device& device, int n_threads,
                           LoadedPredictor* out) const;
  SlicePredictor StoreSigns(int64_t layer, const FfnSlice& slice, SlicePredictor predictor,
                            QueuedDevice& device, int n_threads) const;

  const GgufReader& gguf_;
  const ModelConfig& config_;
  PredictorKind kind_ = PredictorKind::kSvd;
  std::string source_;        // for messages
  bool by_file_row_ = false;  // rows as the model's file has them, not as its channels are counted
  std::shared_ptr<const PredictorFile> file_;  // keeps what the layers' views point into
  std::vector<Layer> layers_;
};

// A stored predictor's rows for some neurons, at one of its points, in memory of `device`. The
// result has that one point, its threshold taken into the biases.
LayerPredictor CopyPredictor(const LayerPredictor& stored, std::span<const int32_t> rows,
                             size_t point, Device& device);

}  // namespace thermocline
