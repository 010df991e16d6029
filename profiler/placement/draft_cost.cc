#include "profiler/placement/draft_cost.h"

#include <algorithm>

#include "runtime/core/error.h"
#include "runtime/model/tensor_table.h"

namespace thermocline {
namespace {

constexpr int64_t kDrafted[] = {0, 1, 2, 3, 4, 6, 8, 12, 16, 32};
constexpr double kDraftMsPerSecond = 1e3;

std::vector<std::vector<int32_t>> OrdersOfDraft(const DraftFile& draft) {
  std::vector<std::vector<int32_t>> orders;
  for (const DraftLayer& layer : draft.layers) orders.push_back(layer.order);
  return orders;
}

double FastReadBytesPerSecond(const OpenedModel& model, const MachineRates& rates, int n_threads) {
  return model.gpu().empty() ? rates.ReadBytesPerSecond(n_threads) : rates.gpu->read_bytes_per_s;
}

// Bytes of the matrices that have stand-ins, as they are in the model's file.
double ReplacedBytes(const OpenedModel& model, const DraftFile& draft) {
  double bytes = 0;
  for (const DraftReplacement& other : draft.replacements) {
    const GgufTensorInfo* const info = model.gguf().FindTensor(other.name);
    if (info != nullptr) bytes += static_cast<double>(info->n_bytes);
  }
  return bytes;
}

// Of one token, on the fast tier alone: attention and head, hot neurons as they are, and what
// stands in for the others at the rate of plain reads.
double DraftSeconds(const OpenedModel& model, const CostModel& cost, const MachineRates& rates,
                    const DraftFile& draft) {
  const int n_threads = cost.shape().n_threads;
  const double read = FastReadBytesPerSecond(model, rates, n_threads);
  std::vector<int64_t> n_hot;
  for (const DraftLayer& layer : draft.layers) n_hot.push_back(layer.n_hot);
  const PassTime pass = cost.Pass(n_hot);
  double ms = pass.head_ms + pass.pass_ms;
  for (size_t l = 0; l < draft.layers.size(); ++l) {
    const LayerTime layer = cost.Layer(static_cast<int64_t>(l), draft.layers[l].n_hot, n_threads);
    ms += layer.attention_ms + layer.fast_ms;
  }
  double bytes = static_cast<double>(draft.own_bytes()) - ReplacedBytes(model, draft);
  return ms / kDraftMsPerSecond + bytes / read;
}

}  // namespace

double TokensPerPass(double acceptance, int64_t n_drafted) {
  double tokens = 1;
  double chance = 1;
  for (int64_t i = 0; i < n_drafted; ++i) tokens += chance *= acceptance;
  return tokens;
}

std::vector<DraftPrediction> PredictDrafting(const OpenedModel& model, const ProfileStats& stats,
                                             const MachineRates& rates, const PassShape& shape,
                                             const DraftFile& draft,
                                             std::span<const int64_t> n_hot) {
  const std::vector<std::vector<int32_t>> orders = OrdersOfDraft(draft);
  const CostModel plain(model, stats, orders, rates, shape);
  const double draft_ms = kDraftMsPerSecond * DraftSeconds(model, plain, rates, draft);
  std::vector<DraftPrediction> predictions;
  for (const int64_t n : kDrafted) {
    PassShape verify = shape;
    verify.rows = n + 1;
    verify.prompt = n > 0;
    const CostModel cost(model, stats, orders, rates, verify);
    predictions.push_back({n, static_cast<double>(n) * draft_ms, cost.Pass(n_hot).total_ms(),
                           TokensPerPass(draft.acceptance, n)});
  }
  return predictions;
}

}  // namespace thermocline
