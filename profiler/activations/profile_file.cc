#include "profiler/activations/profile_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "runtime/core/error.h"
#include "runtime/gguf/gguf_reader.h"
#include "runtime/gguf/gguf_writer.h"
#include "runtime/gguf/own_files.h"

namespace thermocline {
namespace {

constexpr const char* kFileType = "thermocline-profile";
constexpr uint64_t kMaxTokens = uint64_t{1} << 53;

// Keys and the endings of tensor names of one split.
struct SplitNames {
  const char* tokens;
  const char* hash;
  const char* ending;
};
constexpr SplitNames kCalibration = {"thermocline.calibration_tokens",
                                     "thermocline.calibration_corpus_hash", ""};
constexpr SplitNames kHeldout = {"thermocline.heldout_tokens", "thermocline.heldout_corpus_hash",
                                 "_heldout"};

std::string CountName(size_t layer, const SplitNames& names) {
  return fmt::format("blk.{}.ffn_count{}", layer, names.ending);
}
std::string MassName(size_t layer, const SplitNames& names) {
  return fmt::format("blk.{}.ffn_mass{}", layer, names.ending);
}

[[noreturn]] void FailValue(const GgufReader& gguf, const std::string& name, size_t neuron,
                            std::string expected, std::string found) {
  throw Error({.path = gguf.path(),
               .what = fmt::format("tensor {}, neuron {}", name, neuron),
               .expected = std::move(expected),
               .found = std::move(found),
               .hint = "the file is damaged: profile again"});
}

LayerActivity ReadLayer(const GgufReader& gguf, size_t layer, const SplitNames& names, int64_t d_ff,
                        int64_t n_tokens) {
  LayerActivity activity;
  const std::string count_name = CountName(layer, names);
  const std::string mass_name = MassName(layer, names);
  activity.count = ReadVector<int64_t>(gguf, count_name, DType::kI64, d_ff);
  activity.mass = ReadVector<double>(gguf, mass_name, DType::kF64, d_ff);
  for (size_t i = 0; i < activity.count.size(); ++i) {
    const int64_t count = activity.count[i];
    if (count < 0 || count > n_tokens) {
      FailValue(gguf, count_name, i, fmt::format("0 to {}, the tokens counted", n_tokens),
                std::to_string(count));
    }
    const double mass = activity.mass[i];
    if (!std::isfinite(mass) || mass < 0) {
      FailValue(gguf, mass_name, i, "a finite number, not negative", fmt::format("{}", mass));
    }
  }
  return activity;
}

SplitActivity ReadSplit(const GgufReader& gguf, const SplitNames& names, size_t n_layers,
                        int64_t d_ff) {
  SplitActivity split;
  split.n_tokens = static_cast<int64_t>(gguf.RequireU64(names.tokens, 1, kMaxTokens));
  split.corpus_hash = gguf.RequireString(names.hash);
  for (size_t layer = 0; layer < n_layers; ++layer) {
    split.layers.push_back(ReadLayer(gguf, layer, names, d_ff, split.n_tokens));
  }
  return split;
}

struct SquaresMember {
  const char* name;
  std::vector<double> LayerInputSquares::*values;
};
constexpr SquaresMember kSquares[] = {{"attention", &LayerInputSquares::attention},
                                      {"attended", &LayerInputSquares::attended},
                                      {"ffn", &LayerInputSquares::ffn},
                                      {"down", &LayerInputSquares::down}};

std::string SquaresName(size_t layer, const char* name) {
  return fmt::format("blk.{}.input_squares.{}", layer, name);
}

// Profiles of earlier versions have none.
std::vector<LayerInputSquares> ReadSquares(const GgufReader& gguf, size_t n_layers) {
  std::vector<LayerInputSquares> layers;
  if (gguf.FindTensor(SquaresName(0, kSquares[0].name)) == nullptr) return layers;
  for (size_t layer = 0; layer < n_layers; ++layer) {
    LayerInputSquares& squares = layers.emplace_back();
    for (const SquaresMember& member : kSquares) {
      const std::string name = SquaresName(layer, member.name);
      const GgufTensorInfo* const info = gguf.FindTensor(name);
      const auto n = static_cast<int64_t>(info == nullptr ? 1 : info->cols());
      squares.*member.values = ReadVector<double>(gguf, name, DType::kF64, n);
      for (const double value : squares.*member.values) {
        if (std::isfinite(value) && value >= 0) continue;
        throw Error({.path = gguf.path(),
                     .what = "tensor " + name,
                     .expected = "finite numbers, not negative",
                     .found = fmt::format("{}", value),
                     .hint = "the file is damaged: profile again",
                     .jobs = {Job::kProfile}});
      }
    }
  }
  return layers;
}

double ReadThreshold(const GgufReader& gguf) {
  constexpr const char* kKey = "thermocline.activation_threshold";
  const auto threshold = gguf.GetF64(kKey);
  if (threshold && *threshold >= 0) return *threshold;
  throw Error({.path = gguf.path(),
               .what = std::string("key ") + kKey,
               .expected = "a number, not negative",
               .found = threshold ? fmt::format("{}", *threshold) : "none"});
}

constexpr const char* kCutShareKey = "thermocline.cut_share";

double ReadCutShare(const GgufReader& gguf) {
  if (gguf.Find(kCutShareKey) == nullptr) return 0;
  const auto share = gguf.GetF64(kCutShareKey);
  if (share && *share >= 0 && *share < 1) return *share;
  throw Error({.path = gguf.path(),
               .what = std::string("key ") + kCutShareKey,
               .expected = "a number from 0 to below 1",
               .found = share ? fmt::format("{}", *share) : "something else"});
}

void DeclareSplit(GgufWriter& writer, const SplitActivity& split, const SplitNames& names) {
  writer.Set(names.tokens, GgufValue::u64(static_cast<uint64_t>(split.n_tokens)));
  writer.Set(names.hash, GgufValue::string(split.corpus_hash));
  for (size_t layer = 0; layer < split.layers.size(); ++layer) {
    const uint64_t d_ff = split.layers[layer].count.size();
    writer.DeclareTensor(CountName(layer, names), DType::kI64, {d_ff});
    writer.DeclareTensor(MassName(layer, names), DType::kF64, {d_ff});
  }
}

void WriteSplit(GgufWriter& writer, const SplitActivity& split, const SplitNames& names) {
  for (size_t layer = 0; layer < split.layers.size(); ++layer) {
    const LayerActivity& a = split.layers[layer];
    writer.WriteTensor(CountName(layer, names), a.count.data(), a.count.size() * sizeof(int64_t));
    writer.WriteTensor(MassName(layer, names), a.mass.data(), a.mass.size() * sizeof(double));
  }
}

}  // namespace

void WriteProfile(const std::string& path, const ProfileStats& stats) {
  CHECK(stats.n_layers() > 0 && stats.heldout.layers.size() == stats.calibration.layers.size());
  GgufWriter writer(path);
  writer.Set("general.architecture", GgufValue::string(kFileType));
  writer.Set("thermocline.model_fingerprint", GgufValue::string(stats.model_fingerprint));
  writer.Set("thermocline.n_layers", GgufValue::u64(stats.calibration.layers.size()));
  writer.Set("thermocline.d_ff", GgufValue::u64(static_cast<uint64_t>(stats.d_ff())));
  writer.Set("thermocline.activation_threshold", GgufValue::f64(stats.activation_threshold));
  if (stats.cut_share > 0) writer.Set(kCutShareKey, GgufValue::f64(stats.cut_share));
  writer.Set("thermocline.context_tokens",
             GgufValue::u64(static_cast<uint64_t>(stats.context_tokens)));
  DeclareSplit(writer, stats.calibration, kCalibration);
  DeclareSplit(writer, stats.heldout, kHeldout);
  const auto for_squares = [&](const auto& take) {
    for (size_t layer = 0; layer < stats.input_squares.size(); ++layer) {
      for (const SquaresMember& member : kSquares) {
        take(SquaresName(layer, member.name), stats.input_squares[layer].*member.values);
      }
    }
  };
  for_squares([&](const std::string& name, const std::vector<double>& values) {
    writer.DeclareTensor(name, DType::kF64, {values.size()});
  });
  if (stats.thresholds) DeclareThresholds(*stats.thresholds, &writer);
  WriteSplit(writer, stats.calibration, kCalibration);
  WriteSplit(writer, stats.heldout, kHeldout);
  for_squares([&](const std::string& name, const std::vector<double>& values) {
    writer.WriteTensor(name, values.data(), values.size() * sizeof(double));
  });
  if (stats.thresholds) WriteThresholds(*stats.thresholds, &writer);
  writer.Finish();
}

ProfileStats ReadProfile(const std::string& path) {
  const GgufReader gguf(path);
  RequireFileType(gguf, kFileType, "profile", {Job::kProfile});
  ProfileStats stats;
  stats.path = path;
  stats.model_fingerprint = gguf.RequireString("thermocline.model_fingerprint");
  stats.activation_threshold = ReadThreshold(gguf);
  stats.cut_share = ReadCutShare(gguf);
  stats.context_tokens =
      static_cast<int64_t>(gguf.RequireU64("thermocline.context_tokens", 1, kMaxTokens));
  const uint64_t n_layers = gguf.RequireU64("thermocline.n_layers", 1, kMaxFileLayers);
  const auto d_ff = static_cast<int64_t>(gguf.RequireU64("thermocline.d_ff", 1, kMaxFileNeurons));
  stats.calibration = ReadSplit(gguf, kCalibration, n_layers, d_ff);
  stats.heldout = ReadSplit(gguf, kHeldout, n_layers, d_ff);
  stats.input_squares = ReadSquares(gguf, n_layers);
  return stats;
}

void CheckProfileFits(const ProfileStats& stats, const ModelConfig& config,
                      const std::string& model_path, const std::vector<std::string>& fingerprints) {
  const std::string& own = stats.model_fingerprint;
  if (std::find(fingerprints.begin(), fingerprints.end(), own) == fingerprints.end()) {
    throw Error({.path = stats.path,
                 .what = "the profile was made of another model",
                 .expected = fmt::format("fingerprint {} ({})", fingerprints.front(), model_path),
                 .found = Printable(own),
                 .hint = "profile this model, or name the model the profile was made of"});
  }
  if (stats.n_layers() != config.n_layers || stats.d_ff() != config.d_ff) {
    throw Error({.path = stats.path,
                 .what = "the profile's shape does not fit the model",
                 .expected = fmt::format("{} layers of {} neurons", config.n_layers, config.d_ff),
                 .found = fmt::format("{} layers of {}", stats.n_layers(), stats.d_ff())});
  }
}

}  // namespace thermocline
