// Makes drafts of a model from what a profile counted and a text (docs/drafts.md): which neurons
// are hot, which have stand-ins in fewer bits, and what can be told of the rest.
//
// Memory: the text's residual streams twice (8 d_model bytes per token), of one layer the left-out
// neurons' down projections in f32, and three matrices of (d_model, d_model) in f64. Time: four
// runs of the text through the model for a draft that is fitted to it, none for one that is not.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "profiler/activations/profile_stats.h"
#include "profiler/drafts/fit_stand_in.h"
#include "runtime/core/progress.h"
#include "runtime/engine/engine.h"
#include "runtime/placement/draft_file.h"
#include "runtime/stand_ins/draft_pass.h"
#include "runtime/stand_ins/draft_weights.h"

namespace thermocline {

// How a draft is made up. By layer, all neurons in the order of the engine's placement.
struct DraftRecipe {
  struct Slice {
    DType dtype = DType::kS2_0;
    std::vector<int64_t> n_neurons;  // (n_layers)
  };
  std::vector<int64_t> n_hot;  // (n_layers)
  std::vector<Slice> slices;
  bool bias = false;
  int64_t rank = 0;           // with a bias, too
  std::optional<DType> copy;  // of attention's matrices and the head; nullopt: they are the model's

  bool is_fitted() const { return bias || rank > 0; }
};

// Neurons of every layer, those that should be hot first. weights: null, or how much each layer's
// masses count.
using NeuronOrders = std::vector<std::vector<int32_t>>;
NeuronOrders RankNeurons(const ProfileStats& stats, DraftRanking ranking);

// A draft in which all neurons are hot, in these orders: to open the engine with that builds others
// (FileOptions::draft).
std::shared_ptr<const DraftFile> OrderedDraft(const ModelConfig& config,
                                              const std::string& fingerprint,
                                              const NeuronOrders& orders);

// Returns the type that stands in for one of so many bits where rows hold no whole blocks of it:
// Q2_K or S2_0, Q3_K or S3_0, Q4_K or IQ4_NL.
DType StandInType(int bits, int64_t d_model);

// A text as windows, each a sequence of its own, none longer than the engine's context.
using DraftTexts = std::vector<std::vector<int32_t>>;

class DraftBuilder {
 public:
  // The engine runs the whole model on one tier of the host, opened with an OrderedDraft. stats: of
  // the same model; what its matrices read weighs the stand-ins' errors. All must outlive it.
  // Throws Error for models whose neurons cannot be left out.
  DraftBuilder(Engine& engine, const ProfileStats& stats, const DraftTexts& calibration,
               ProgressFn progress);

  // Throws Interrupted between windows.
  DraftFile Build(const DraftRecipe& recipe);

  // Bytes that a token reads of a layer's neurons: of a hot one, of one in another type, and of a
  // map.
  uint64_t hot_bytes() const;
  uint64_t stand_in_bytes(DType dtype) const;
  uint64_t map_bytes(int64_t rank) const;

  // Runs a draft of this builder's. Valid until the next Run or Build.
  DraftPass& Run(const DraftFile& draft);
  Engine& engine() { return engine_; }
  const ModelConfig& config() const { return engine_.config(); }

 private:
  class LeftOutObserver;

  const FfnSlice& slice(int64_t l) const {
    return engine_.weights().layers[static_cast<size_t>(l)].slices.front();
  }
  DraftLayer MakeLayer(const DraftRecipe& recipe, int64_t l) const;
  DraftMatrix Convert(const std::string& name, const TensorView& rows, DType dtype,
                      std::span<const float> importance) const;
  std::vector<DraftReplacement> Copy(DType dtype) const;
  // Fits the layers' maps, each to what the draft feeds its layer.
  void Fit(const DraftRecipe& recipe, DraftFile* draft);
  void FitLayer(const DraftRecipe& recipe, const LeftOutMoments& moments, DraftLayer* layer) const;
  template <typename Body>
  void ForChunks(std::vector<float>* streams, const Body& body);

  Engine& engine_;
  const ProfileStats& stats_;
  const DraftTexts& calibration_;
  ProgressFn progress_;
  DraftWeights weights_;
  DraftPass pass_;
};

}  // namespace thermocline
