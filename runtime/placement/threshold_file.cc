#include "runtime/placement/threshold_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "runtime/core/error.h"
#include "runtime/gguf/own_files.h"

namespace thermocline {
namespace {

constexpr const char* kTokensKey = "thermocline.thresholds.tokens";
constexpr uint64_t kMostTokens = uint64_t{1} << 53;
constexpr std::array<const char*, kMatrices> kMatrixNames = {"q",    "k",  "v",   "o",
                                                             "gate", "up", "down"};
constexpr std::array<const char*, kMatrixInputs> kInputNames = {"attention", "attended", "ffn",
                                                                "down"};
constexpr int64_t kPointFloats = 2 + kMatrices;
constexpr int64_t kMaxPathPoints = 4096;

std::string MethodName(size_t method) {
  return std::string(ThresholdMethodName(static_cast<ThresholdMethod>(method)));
}
std::string BestKey(size_t method) { return "thermocline.thresholds.best." + MethodName(method); }
std::string SharesName(size_t method) { return "thresholds.layer_shares." + MethodName(method); }
std::string ReachedName(size_t method, size_t split) {
  return fmt::format("thresholds.reached.{}.{}", MethodName(method),
                     ThresholdSplitName(static_cast<ThresholdSplit>(split)));
}
std::string PathName(size_t layer, size_t method) {
  return fmt::format("blk.{}.sparsity_path.{}", layer, MethodName(method));
}
std::string NormsName(size_t layer, size_t matrix) {
  return fmt::format("blk.{}.channel_norms.{}", layer, kMatrixNames[matrix]);
}
std::string WeightsName(size_t layer) { return fmt::format("blk.{}.gate_weights", layer); }

// Calls take(name, histogram) for each of a layer.
template <typename Layer, typename Take>
void ForHistograms(size_t index, Layer& layer, const Take& take) {
  const auto name = [&](const std::string& input) {
    return fmt::format("blk.{}.magnitudes.{}", index, input);
  };
  for (size_t i = 0; i < kMatrixInputs; ++i) take(name(kInputNames[i]), layer.inputs[i]);
  for (size_t m = 0; m < kMatrices; ++m) {
    take(name(fmt::format("wina.{}", kMatrixNames[m])), layer.wina[m]);
  }
  take(name("gates"), layer.gates);
  take(name("weighed_gates"), layer.weighed_gates);
}

// Returns the first bin that is not 0, and the counts from there to the last such one.
std::vector<int64_t> Packed(const MagnitudeHistogram& histogram) {
  const std::vector<int64_t>& bins = histogram.bins();
  size_t first = 0;
  size_t end = bins.size();
  while (first < end && bins[first] == 0) ++first;
  while (end > first && bins[end - 1] == 0) --end;
  std::vector<int64_t> packed = {static_cast<int64_t>(first)};
  packed.insert(packed.end(), bins.begin() + static_cast<int64_t>(first),
                bins.begin() + static_cast<int64_t>(end));
  return packed;
}

// Calls take(name, dtype, data, count) for every tensor, in one order.
template <typename Take>
void ForTensors(const ModelThresholds& thresholds, const Take& take) {
  const auto floats = [&](const std::string& name, const std::vector<float>& values) {
    if (!values.empty()) take(name, DType::kF32, values.data(), values.size());
  };
  for (size_t l = 0; l < thresholds.layers.size(); ++l) {
    const LayerThresholds& layer = thresholds.layers[l];
    ForHistograms(l, layer, [&](const std::string& name, const MagnitudeHistogram& histogram) {
      if (histogram.n() == 0) return;
      const std::vector<int64_t> packed = Packed(histogram);
      take(name, DType::kI64, packed.data(), packed.size());
    });
    for (size_t m = 0; m < kMatrices; ++m) floats(NormsName(l, m), layer.norms[m]);
    floats(WeightsName(l), layer.gate_weights);
    for (size_t method = 0; method < kPathMethods; ++method) {
      std::vector<float> values;
      for (const PathPoint& point : layer.paths[method]) {
        values.push_back(point.share);
        values.push_back(point.error);
        values.insert(values.end(), point.matrices.begin(), point.matrices.end());
      }
      floats(PathName(l, method), values);
    }
  }
  for (size_t method = 0; method < kPathMethods; ++method) {
    floats(SharesName(method), thresholds.layer_shares[method]);
  }
  for (size_t method = 0; method < kThresholdMethods; ++method) {
    for (size_t split = 0; split < kThresholdSplits; ++split) {
      floats(ReachedName(method, split), thresholds.reached[method][split]);
    }
  }
}

[[noreturn]] void FailTensor(const GgufReader& gguf, const std::string& name,
                             std::string expected) {
  throw Error({.path = gguf.path(),
               .what = "tensor " + name,
               .expected = std::move(expected),
               .hint = "the file is damaged: profile again",
               .jobs = {Job::kProfile}});
}

MagnitudeHistogram ReadHistogram(const GgufReader& gguf, const std::string& name) {
  const GgufTensorInfo* const info = gguf.FindTensor(name);
  if (info == nullptr) return {};
  const uint64_t n = info->cols();
  if (n < 2 || n > MagnitudeHistogram::kBins + 1) FailTensor(gguf, name, "counts of a histogram");
  const auto packed = ReadVector<int64_t>(gguf, name, DType::kI64, static_cast<int64_t>(n));
  const auto first = static_cast<uint64_t>(packed[0]);
  if (packed[0] < 0 || first + n - 1 > MagnitudeHistogram::kBins) {
    FailTensor(gguf, name, "bins of a histogram");
  }
  std::vector<int64_t> bins(first, 0);
  for (size_t i = 1; i < packed.size(); ++i) {
    if (packed[i] < 0 || packed[i] > static_cast<int64_t>(kMostTokens >> 14)) {
      FailTensor(gguf, name, "counts that are not negative, and not too large");
    }
    bins.push_back(packed[i]);
  }
  return MagnitudeHistogram::FromBins(std::move(bins));
}

// Reads n numbers that are finite and not negative, or none where the tensor is not there.
std::vector<float> ReadFloats(const GgufReader& gguf, const std::string& name, int64_t n) {
  if (n == 0 || gguf.FindTensor(name) == nullptr) return {};
  auto values = ReadVector<float>(gguf, name, DType::kF32, n);
  for (const float value : values) {
    if (!std::isfinite(value) || value < 0) FailTensor(gguf, name, "finite numbers, not negative");
  }
  return values;
}

std::vector<PathPoint> ReadPath(const GgufReader& gguf, const std::string& name) {
  const GgufTensorInfo* const info = gguf.FindTensor(name);
  if (info == nullptr) return {};
  const auto n = static_cast<int64_t>(info->cols());
  if (n % kPointFloats != 0 || n / kPointFloats > kMaxPathPoints) {
    FailTensor(gguf, name, fmt::format("points of {} numbers", kPointFloats));
  }
  const std::vector<float> values = ReadFloats(gguf, name, n);
  std::vector<PathPoint> path;
  for (size_t at = 0; at < values.size(); at += kPointFloats) {
    PathPoint& point = path.emplace_back();
    point.share = values[at];
    point.error = values[at + 1];
    std::copy_n(values.begin() + static_cast<int64_t>(at) + 2, kMatrices, point.matrices.begin());
    const bool shares = std::ranges::all_of(point.matrices, [](float s) { return s <= 1; });
    const bool rises =
        path.size() == 1 ? point.share == 0 : point.share >= path[path.size() - 2].share;
    if (!shares || !rises) FailTensor(gguf, name, "shares that rise from 0");
  }
  return path;
}

std::array<int64_t, kMatrices> InputDims(const ModelConfig& config, int64_t layer) {
  const int64_t d = config.d_model;
  const AttentionConfig& a = config.layer(layer).attention;
  return {d, d, d, a.q_dim(), d, d, config.d_ff_of(layer)};
}

LayerThresholds ReadLayer(const GgufReader& gguf, const ModelConfig& config, size_t l) {
  LayerThresholds layer;
  ForHistograms(l, layer, [&](const std::string& name, MagnitudeHistogram& histogram) {
    histogram = ReadHistogram(gguf, name);
  });
  const auto dims = InputDims(config, static_cast<int64_t>(l));
  for (size_t m = 0; m < kMatrices; ++m) {
    layer.norms[m] = ReadFloats(gguf, NormsName(l, m), dims[m]);
  }
  layer.gate_weights = ReadFloats(gguf, WeightsName(l), config.d_ff_of(static_cast<int64_t>(l)));
  for (size_t method = 0; method < kPathMethods; ++method) {
    layer.paths[method] = ReadPath(gguf, PathName(l, method));
  }
  const auto sizes = MatrixSizes(config, static_cast<int64_t>(l));
  for (size_t m = 0; m < kMatrices; ++m) {
    if (sizes[m] == 0) continue;
    if (layer.inputs[kInputOf[m]].n() == 0 || layer.wina[m].n() == 0 || layer.norms[m].empty()) {
      FailTensor(gguf, NormsName(l, m), "norms and magnitudes of every matrix");
    }
  }
  return layer;
}

std::optional<ThresholdSplit> ReadBest(const GgufReader& gguf, size_t method) {
  if (gguf.Find(BestKey(method)) == nullptr) return std::nullopt;
  const std::string name = gguf.RequireString(BestKey(method));
  for (size_t split = 1; split < kThresholdSplits; ++split) {
    if (name == ThresholdSplitName(static_cast<ThresholdSplit>(split))) {
      return static_cast<ThresholdSplit>(split);
    }
  }
  throw Error({.path = gguf.path(),
               .what = "key " + BestKey(method),
               .expected = "uniform, block or layers",
               .found = Printable(name)});
}

// Returns the share that the matrices in `sizes` skip together.
double ShareOf(const MatrixShares& shares, const std::array<int64_t, kMatrices>& sizes) {
  double skipped = 0;
  double all = 0;
  for (size_t m = 0; m < kMatrices; ++m) {
    skipped += static_cast<double>(shares[m]) * static_cast<double>(sizes[m]);
    all += static_cast<double>(sizes[m]);
  }
  return all == 0 ? 0 : skipped / all;
}

// Returns the place on a path where the matrices in `sizes` skip `share` together.
MatrixShares OnPath(const std::vector<PathPoint>& path, double share,
                    const std::array<int64_t, kMatrices>& sizes) {
  for (size_t i = 1; i < path.size(); ++i) {
    const double above = ShareOf(path[i].matrices, sizes);
    if (above < share) continue;
    const double below = ShareOf(path[i - 1].matrices, sizes);
    const double weight = above > below ? (share - below) / (above - below) : 1;
    MatrixShares shares;
    for (size_t m = 0; m < kMatrices; ++m) {
      const double from = path[i - 1].matrices[m];
      shares[m] = static_cast<float>(from + std::max(0.0, weight) * (path[i].matrices[m] - from));
    }
    return shares;
  }
  return path.back().matrices;
}

// Returns a layer's share where that of all layers is `share`.
double LayerShare(const std::vector<float>& layer_shares, size_t n_layers, size_t layer,
                  double share) {
  const double at = share / kMaxSparsity * static_cast<double>(kShareTargets - 1);
  const size_t low = std::min(static_cast<size_t>(at), kShareTargets - 2);
  const double weight = at - static_cast<double>(low);
  return (1 - weight) * layer_shares[low * n_layers + layer] +
         weight * layer_shares[(low + 1) * n_layers + layer];
}

}  // namespace

std::array<int64_t, kMatrices> MatrixSizes(const ModelConfig& config, int64_t layer) {
  const LayerConfig& c = config.layer(layer);
  const int64_t d = config.d_model;
  const int64_t kv = c.attention.has_own_kv() ? d * c.attention.kv_dim() : 0;
  const int64_t up = c.ffn.kind == FfnKind::kGated ? d * c.ffn.d_ff : 0;
  return {d * c.attention.q_dim(), kv, kv, d * c.attention.q_dim(), d * c.ffn.d_ff, up,
          d * c.ffn.d_ff};
}

std::vector<MatrixShares> ChooseShares(const ModelThresholds& thresholds,
                                       const ThresholdChoice& choice, ThresholdSplit split,
                                       const ModelConfig& config) {
  const auto method = static_cast<size_t>(choice.method);
  CHECK(method < kPathMethods);
  split = SplitOf(thresholds, choice.method, split);
  const bool searched =
      split == ThresholdSplit::kUniform ||
      (!thresholds.layers.front().paths[method].empty() &&
       (split == ThresholdSplit::kBlock || !thresholds.layer_shares[method].empty()));
  if (!searched) {
    throw Error({.path = thresholds.path,
                 .what = "how the thresholds' share is split over matrices was not searched",
                 .expected = "uniform, or a profile that was made with the search",
                 .found = std::string(ThresholdSplitName(split)),
                 .settings = {{Setting::kThresholds}},
                 .jobs = {Job::kProfile}});
  }
  std::vector<MatrixShares> shares(thresholds.layers.size());
  for (size_t l = 0; l < shares.size(); ++l) {
    std::array<int64_t, kMatrices> sizes = MatrixSizes(config, static_cast<int64_t>(l));
    if (choice.ffn_mode != SparseMode::kThreshold) sizes[4] = sizes[5] = sizes[6] = 0;
    shares[l].fill(static_cast<float>(choice.sparsity));
    if (split == ThresholdSplit::kUniform) continue;
    const double share =
        split == ThresholdSplit::kBlock
            ? choice.sparsity
            : LayerShare(thresholds.layer_shares[method], shares.size(), l, choice.sparsity);
    shares[l] = OnPath(thresholds.layers[l].paths[method], share, sizes);
  }
  return shares;
}

ThresholdSplit SplitOf(const ModelThresholds& thresholds, ThresholdMethod method,
                       ThresholdSplit split) {
  const auto m = static_cast<size_t>(method);
  if (m >= kPathMethods) return ThresholdSplit::kUniform;
  if (split != ThresholdSplit::kAuto) return split;
  return thresholds.best[m].value_or(ThresholdSplit::kUniform);
}

double ShareToAsk(const ModelThresholds& thresholds, ThresholdMethod method, ThresholdSplit split,
                  double share) {
  const std::vector<float>& reached =
      thresholds.reached[static_cast<size_t>(method)][static_cast<size_t>(split)];
  double asked_below = 0;
  double reached_below = 0;
  for (size_t i = 0; i < reached.size(); ++i) {
    const double asked = kMeasuredShares[i];
    const double at = reached[i];
    if (at <= reached_below) continue;
    if (share <= at || i + 1 == reached.size()) {
      const double weight = (share - reached_below) / (at - reached_below);
      return std::min(asked_below + weight * (asked - asked_below), kMaxMatrixSparsity);
    }
    asked_below = asked;
    reached_below = at;
  }
  return share;
}

float ThresholdFor(const LayerThresholds& layer, ThresholdMethod method, size_t matrix,
                   double share) {
  if (share <= 0) return 0;
  switch (method) {
    case ThresholdMethod::kTeal:
      return layer.inputs[kInputOf[matrix]].Quantile(share);
    case ThresholdMethod::kWina:
      return layer.wina[matrix].Quantile(share);
    case ThresholdMethod::kCats:
      return layer.gates.Quantile(share);
    case ThresholdMethod::kNeurons:
      return layer.weighed_gates.Quantile(share);
  }
  return 0;
}

void DeclareThresholds(const ModelThresholds& thresholds, GgufWriter* writer) {
  writer->Set(kTokensKey, GgufValue::u64(static_cast<uint64_t>(thresholds.n_tokens)));
  for (size_t method = 0; method < kPathMethods; ++method) {
    if (!thresholds.best[method]) continue;
    writer->Set(BestKey(method),
                GgufValue::string(std::string(ThresholdSplitName(*thresholds.best[method]))));
  }
  ForTensors(thresholds, [&](const std::string& name, DType dtype, const void*, size_t n) {
    writer->DeclareTensor(name, dtype, {n});
  });
}

void WriteThresholds(const ModelThresholds& thresholds, GgufWriter* writer) {
  ForTensors(thresholds, [&](const std::string& name, DType dtype, const void* data, size_t n) {
    writer->WriteTensor(name, data,
                        static_cast<uint64_t>(RowBytes(dtype, static_cast<int64_t>(n))));
  });
}

std::optional<ModelThresholds> ReadThresholds(const GgufReader& gguf, const ModelConfig& config) {
  if (gguf.Find(kTokensKey) == nullptr) return std::nullopt;
  ModelThresholds thresholds;
  thresholds.path = gguf.path();
  thresholds.n_tokens = static_cast<int64_t>(gguf.RequireU64(kTokensKey, 1, kMostTokens));
  const auto n_layers = static_cast<size_t>(config.n_layers);
  for (size_t l = 0; l < n_layers; ++l) {
    thresholds.layers.push_back(ReadLayer(gguf, config, l));
  }
  for (size_t method = 0; method < kPathMethods; ++method) {
    thresholds.layer_shares[method] =
        ReadFloats(gguf, SharesName(method), static_cast<int64_t>(kShareTargets * n_layers));
    for (const float share : thresholds.layer_shares[method]) {
      if (share > 1) FailTensor(gguf, SharesName(method), "shares up to 1");
    }
    thresholds.best[method] = ReadBest(gguf, method);
  }
  for (size_t method = 0; method < kThresholdMethods; ++method) {
    for (size_t split = 0; split < kThresholdSplits; ++split) {
      thresholds.reached[method][split] = ReadFloats(gguf, ReachedName(method, split),
                                                     static_cast<int64_t>(kMeasuredShares.size()));
    }
  }
  return thresholds;
}

ModelThresholds OpenThresholds(const std::string& path, const ModelConfig& config,
                               const std::string& model_path,
                               const std::vector<std::string>& fingerprints) {
  const GgufReader gguf(path);
  RequireFileType(gguf, "thermocline-profile", "profile", {Job::kProfile});
  const std::string own = gguf.RequireString("thermocline.model_fingerprint");
  if (std::ranges::find(fingerprints, own) == fingerprints.end()) {
    throw Error({.path = path,
                 .what = "the thresholds were made for another model",
                 .expected = fmt::format("fingerprint {} ({})", fingerprints.front(), model_path),
                 .found = Printable(own),
                 .hint = "profile this model, with thresholds",
                 .jobs = {Job::kProfile}});
  }
  auto thresholds = ReadThresholds(gguf, config);
  if (!thresholds) {
    throw Error({.path = path,
                 .what = "the profile has no thresholds",
                 .expected = "a profile that was made with thresholds",
                 .found = "counts alone",
                 .jobs = {Job::kProfile}});
  }
  return std::move(*thresholds);
}

}  // namespace thermocline
