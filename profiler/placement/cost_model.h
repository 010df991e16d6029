// How long a pass takes, from the bytes it reads and the rates of the machine: the yardstick of a
// placement, before anything is loaded.
//
// In a layer whose neurons lie on both tiers the two work at once: max(fast, slow), and a
// hand-over. Exact mode reads the gates of all neurons on the tier where they lie, and up and down
// of those that fire; how many that is comes from the counts of these very neurons. Where both
// tiers are devices of the host they read one memory, and each slows the other down.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "predictor/sparse_mode.h"
#include "profiler/activations/profile_stats.h"
#include "runtime/engine/opened_model.h"
#include "runtime/placement/draft_file.h"
#include "runtime/rates/machine_rates.h"

namespace thermocline {

// A pass whose time is wanted.
struct PassShape {
  int64_t rows = 1;
  bool prompt = false;         // the rows are a piece of one sequence; else each has its own
  bool verify = false;         // they are, and each wants its logits: drafted tokens
  int64_t context_tokens = 0;  // in each sequence before the rows
  SparseMode mode = SparseMode::kDense;
  int n_threads = 1;
  bool placed = true;  // with two tiers
  // What the slow tier gives at most (TierOptions::slow_tier_bytes_per_s); 0: what it can, or what
  // the model was opened with.
  double slow_bytes_per_s = 0;
};

struct LayerTime {
  double attention_ms = 0;  // with norms, rotation, cache and, where it is away, a hand-over
  double fast_ms = 0;       // of the FFN, were each tier alone
  double slow_ms = 0;
  double handover_ms = 0;  // 0 where only one tier has neurons
  double ffn_ms = 0;       // of all that together
};

struct PassTime {
  std::vector<LayerTime> layers;
  double head_ms = 0;
  double pass_ms = 0;  // once per pass: waking the team

  double total_ms() const;
};

class CostModel {
 public:
  // orders: (n_layers) the neurons of each layer, hot to cold; empty: as in the file. stats: where
  // nothing was counted every neuron counts as active. REQUIRES: rates of this machine that have
  // RateTypesOf(model); everything outlives the model.
  CostModel(const OpenedModel& model, const ProfileStats& stats,
            std::span<const std::vector<int32_t>> orders, const MachineRates& rates,
            const PassShape& shape);

  const PassShape& shape() const { return shape_; }
  bool fast_is_host() const { return fast_is_host_; }
  // The time of a layer with its first n_hot neurons on the fast tier. fast_threads: how many of
  // the host's threads the fast tier has where it is the host's, too. away: it attends on the slow
  // tier.
  LayerTime Layer(int64_t layer, int64_t n_hot, int fast_threads, bool away = false) const;
  // How many that are with so many hot neurons in each layer, as the executor shares them out.
  int FastThreads(std::span<const int64_t> n_hot) const;
  // away: (n_layers) which layers attend on the slow tier; empty: none.
  PassTime Pass(std::span<const int64_t> n_hot, std::span<const uint8_t> away = {}) const;
  // A pass of the draft on the fast tier alone: attention and head, in fewer bits where the draft
  // has them so, hot neurons, and what stands in for the others (LayerTime::fast_ms has all of
  // these). REQUIRES: orders are the draft's; rates with its types, too.
  PassTime Draft(const DraftFile& draft) const;

 private:
  // Weights that are multiplied whole.
  struct Matrix {
    RateKey key;
    double n_weights;
    bool goes_with_attention = false;
    std::string name = {};  // in the model's file
  };
  // A neuron's part of gate, up or down.
  struct NeuronRow {
    RateKey key;
    double n_weights = 0;  // 0: there is none
    double n_bytes = 0;
  };
  struct LayerCost {
    std::vector<Matrix> attention;
    NeuronRow gate, up, down;
    // (d_ff + 1) sums over the first neurons: of the share of tokens that each is active in, and of
    // the share of passes in which any row has it active.
    std::vector<double> active;
    std::vector<double> in_any_row;
    double predicted = 1;  // share of the neurons that a predictor names
    double predictor_bytes_per_neuron = 0;
    double neuron_bytes() const { return gate.n_bytes + up.n_bytes + down.n_bytes; }
  };
  struct Slice {
    const LayerCost* layer;
    int64_t begin;
    int64_t end;
    int n_threads;
    bool asks;  // a predictor
  };

  LayerCost ReadLayer(int64_t layer) const;
  void CountActive(const LayerActivity* activity, const std::vector<int32_t>* order,
                   int64_t n_tokens, LayerCost* cost) const;
  // draft: null, or what may have matrices in fewer bits.
  double AttentionSeconds(int64_t layer, bool away, const DraftFile* draft = nullptr) const;
  double HeadSeconds(const DraftFile* draft) const;
  double DraftFfnSeconds(int64_t layer, const DraftFile& draft) const;
  double CacheSeconds(int64_t layer, bool on_host) const;
  double HandoverMs() const;
  double HostSlice(const Slice& slice) const;
  // What a tier that is held back takes for the bytes it reads; 0: it is not.
  double PacedSeconds(const Slice& slice) const;
  double RowsSlice(const Slice& slice) const;
  double GpuSlice(const Slice& slice) const;
  double Product(const RateKey& key, double n_weights, int n_threads, int64_t rows) const;
  double GpuProduct(const RateKey& key, double n_weights, int64_t rows) const;
  double OnTier(const RateKey& key, double n_weights, int64_t rows, bool on_host) const;
  // The same of a matrix that a host uses where it lies in its mapped file, in small pages.
  double OfFile(const RateKey& key, double n_weights, int64_t rows, bool on_host) const;
  double Whole(const DraftFile* draft, const Matrix& matrix, int64_t rows, bool on_host) const;
  double OpSeconds(bool on_host) const;
  double FastOpSeconds() const { return OpSeconds(fast_is_host_); }

  const OpenedModel& model_;
  const MachineRates& rates_;
  PassShape shape_;
  bool fast_is_host_;
  std::vector<LayerCost> layers_;
  Matrix head_;
};

// What a model's passes multiply with, placed or not, and the type of its KV cache; with a draft
// also what that has of its own.
std::vector<RateKey> RateTypesOf(const OpenedModel& model, const DraftFile* draft = nullptr);

}  // namespace thermocline
