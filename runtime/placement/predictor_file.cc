#include "runtime/placement/predictor_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "cpu_kernels/kernels.h"
#include "runtime/core/error.h"
#include "runtime/gguf/gguf_writer.h"
#include "runtime/gguf/own_files.h"
#include "runtime/model/families.h"

namespace thermocline {
namespace {

constexpr const char* kPredictorFileType = "thermocline-predictor";
constexpr const char* kLookAhead = "thermocline.predictor.look_ahead";
constexpr const char* kUnfinished = "thermocline.predictor.unfinished";
constexpr const char* kTrueDensity = "pred_true_density";
constexpr const char* kDamaged = "the file is damaged: build the predictor again";
constexpr uint64_t kMaxWidth = 1U << 20;
constexpr uint64_t kMaxTokens = uint64_t{1} << 53;
constexpr int64_t kPointValues = 3;  // recall, density, threshold
constexpr PredictorKind kKinds[] = {PredictorKind::kSvd, PredictorKind::kMlp, PredictorKind::kSign};

std::string TensorName(int64_t layer, const char* ending) {
  return fmt::format("blk.{}.pred_{}", layer, ending);
}

bool HasMatrices(PredictorKind kind) { return kind != PredictorKind::kSign; }

PredictorKind ReadKind(const GgufReader& gguf) {
  const std::string name = gguf.RequireString("thermocline.predictor.method");
  for (const PredictorKind kind : kKinds) {
    if (name == PredictorKindName(kind)) return kind;
  }
  throw Error({.path = gguf.path(),
               .what = "key thermocline.predictor.method",
               .expected = "svd, mlp or sign",
               .found = Printable(name)});
}

[[noreturn]] void FailValue(const GgufReader& gguf, const std::string& name, int64_t index,
                            const std::string& expected, float found) {
  throw Error({.path = gguf.path(),
               .what = fmt::format("tensor {}, element {}", name, index),
               .expected = expected,
               .found = fmt::format("{}", found),
               .hint = kDamaged});
}

void CheckFinite(const GgufReader& gguf, const std::string& name, const float* values, int64_t n,
                 int64_t first) {
  for (int64_t i = 0; i < n; ++i) {
    if (!std::isfinite(values[i])) FailValue(gguf, name, first + i, "a finite number", values[i]);
  }
}

TensorView ReadMatrix(const GgufReader& gguf, const std::string& name, int64_t rows, int64_t cols) {
  const TensorView view = gguf.RequireMatrix(name, rows, cols);
  if (view.dtype != DType::kF16 && view.dtype != DType::kQ8_0) {
    throw Error({.path = gguf.path(),
                 .what = "tensor " + name,
                 .expected = "type F16 or Q8_0",
                 .found = std::string(DTypeName(view.dtype))});
  }
  std::vector<float> row(static_cast<size_t>(cols));
  for (int64_t r = 0; r < rows; ++r) {
    CpuKernels().dequantize_f32(view.dtype, view.row(r), 0, cols, row.data());
    CheckFinite(gguf, name, row.data(), cols, r * cols);
  }
  return view;
}

// Reads (n) f32, all finite.
std::vector<float> ReadFloats(const GgufReader& gguf, const std::string& name, int64_t rows,
                              int64_t cols) {
  const TensorView view = gguf.RequireMatrix(name, rows, cols);
  RequireDType(gguf, name, view, DType::kF32);
  std::vector<float> values(static_cast<size_t>(rows * cols));
  std::memcpy(values.data(), view.data, values.size() * sizeof(float));
  CheckFinite(gguf, name, values.data(), rows * cols, 0);
  return values;
}

std::vector<OperatingPoint> ReadPoints(const GgufReader& gguf, int64_t layer, int64_t n_points) {
  const std::string name = TensorName(layer, "points");
  const std::vector<float> values = ReadFloats(gguf, name, n_points, kPointValues);
  std::vector<OperatingPoint> points;
  for (int64_t p = 0; p < n_points; ++p) {
    const float* v = values.data() + p * kPointValues;
    for (int64_t k = 0; k < 2; ++k) {
      const float least = p == 0 ? 0 : v[k - kPointValues];
      if (v[k] >= least && v[k] <= 1) continue;
      FailValue(gguf, name, p * kPointValues + k,
                fmt::format("a share from {} to 1, not below the point before", least), v[k]);
    }
    points.push_back({v[0], v[1], nullptr, v[2]});
  }
  return points;
}

StoredLayerPredictor ReadLayer(const GgufReader& gguf, const PredictorFile& file, int64_t layer,
                               int64_t n_points) {
  StoredLayerPredictor out;
  LayerPredictor& predictor = out.predictor;
  predictor.points = ReadPoints(gguf, layer, n_points);
  predictor.relu = file.kind == PredictorKind::kMlp;
  predictor.input = PredictorInputOf(file.look_ahead, layer);
  if (!HasMatrices(file.kind)) return out;
  predictor.in_proj = ReadMatrix(gguf, TensorName(layer, "in.weight"), file.rank, file.d_model);
  predictor.out_proj = ReadMatrix(gguf, TensorName(layer, "out.weight"), file.d_ff, file.rank);
  out.biases = ReadFloats(gguf, TensorName(layer, "bias"), n_points, file.d_ff);
  for (size_t p = 0; p < predictor.points.size(); ++p) {
    predictor.points[p].bias = out.biases.data() + p * static_cast<size_t>(file.d_ff);
  }
  return out;
}

void CheckRank(const GgufReader& gguf, const PredictorFile& file) {
  const bool fits = file.rank % kRankUnit == 0 && (file.rank > 0) == HasMatrices(file.kind);
  if (fits) return;
  throw Error({.path = gguf.path(),
               .what = "key thermocline.predictor.rank",
               .expected = HasMatrices(file.kind) ? fmt::format("a multiple of {}", kRankUnit)
                                                  : "0, since sign has no matrices",
               .found = std::to_string(file.rank)});
}

int64_t ReadCount(const GgufReader& gguf, const char* key, uint64_t least, uint64_t most) {
  return static_cast<int64_t>(gguf.RequireU64(key, least, most));
}

bool ReadLookAhead(const GgufReader& gguf, PredictorKind kind) {
  const bool look_ahead = gguf.GetBool(kLookAhead).value_or(false);
  if (!look_ahead || HasMatrices(kind)) return look_ahead;
  throw Error({.path = gguf.path(),
               .what = std::string("key ") + kLookAhead,
               .expected = "false, since sign compares a layer's gate with that layer's own input",
               .found = "true"});
}

void WriteHeader(GgufWriter& writer, const PredictorFile& file, size_t n_points) {
  const auto count = [](int64_t n) { return GgufValue::u64(static_cast<uint64_t>(n)); };
  writer.Set("general.architecture", GgufValue::string(kPredictorFileType));
  writer.Set("thermocline.model_fingerprint", GgufValue::string(file.model_fingerprint));
  writer.Set("thermocline.n_layers", GgufValue::u64(file.layers.size()));
  writer.Set("thermocline.d_model", count(file.d_model));
  writer.Set("thermocline.d_ff", count(file.d_ff));
  writer.Set("thermocline.predictor.method",
             GgufValue::string(std::string(PredictorKindName(file.kind))));
  writer.Set("thermocline.predictor.rank", count(file.rank));
  writer.Set("thermocline.predictor.n_points", GgufValue::u64(n_points));
  writer.Set("thermocline.predictor.calibration_tokens", count(file.calibration_tokens));
  writer.Set("thermocline.predictor.heldout_tokens", count(file.heldout_tokens));
  writer.Set("thermocline.predictor.corpus_hash", GgufValue::string(file.corpus_hash));
  if (file.look_ahead) writer.Set(kLookAhead, GgufValue::boolean(true));
  if (!file.unfinished.empty()) writer.Set(kUnfinished, GgufValue::string(file.unfinished));
}

void WriteMatrix(GgufWriter& writer, const std::string& name, const TensorView& w) {
  writer.BeginTensor(name);
  for (int64_t r = 0; r < w.rows; ++r) {
    writer.Write(w.row(r), static_cast<uint64_t>(RowBytes(w.dtype, w.cols)));
  }
}

void WriteLayer(GgufWriter& writer, const PredictorFile& file, int64_t layer) {
  const LayerPredictor& predictor = file.layers[static_cast<size_t>(layer)].predictor;
  if (HasMatrices(file.kind)) {
    WriteMatrix(writer, TensorName(layer, "in.weight"), predictor.in_proj);
    WriteMatrix(writer, TensorName(layer, "out.weight"), predictor.out_proj);
    writer.BeginTensor(TensorName(layer, "bias"));
    for (const OperatingPoint& point : predictor.points) {
      writer.Write(point.bias, static_cast<uint64_t>(file.d_ff) * sizeof(float));
    }
  }
  writer.BeginTensor(TensorName(layer, "points"));
  for (const OperatingPoint& point : predictor.points) {
    const float values[kPointValues] = {point.recall, point.density, point.predictor_threshold};
    writer.Write(values, sizeof(values));
  }
}

void DeclareLayer(GgufWriter& writer, const PredictorFile& file, int64_t layer) {
  const LayerPredictor& predictor = file.layers[static_cast<size_t>(layer)].predictor;
  const auto dims = [](int64_t cols, int64_t rows) {
    return std::vector<uint64_t>{static_cast<uint64_t>(cols), static_cast<uint64_t>(rows)};
  };
  const auto n_points = static_cast<int64_t>(predictor.points.size());
  if (HasMatrices(file.kind)) {
    writer.DeclareTensor(TensorName(layer, "in.weight"), predictor.in_proj.dtype,
                         dims(file.d_model, file.rank));
    writer.DeclareTensor(TensorName(layer, "out.weight"), predictor.out_proj.dtype,
                         dims(file.rank, file.d_ff));
    writer.DeclareTensor(TensorName(layer, "bias"), DType::kF32, dims(file.d_ff, n_points));
  }
  writer.DeclareTensor(TensorName(layer, "points"), DType::kF32, dims(kPointValues, n_points));
}

}  // namespace

std::string_view PredictorKindName(PredictorKind kind) {
  return kind == PredictorKind::kSvd ? "svd" : kind == PredictorKind::kMlp ? "mlp" : "sign";
}

PredictorInput PredictorInputOf(bool look_ahead, int64_t layer) {
  return look_ahead && layer > 0 ? PredictorInput::kPreviousNormed : PredictorInput::kNormed;
}

uint64_t PredictorFile::LayerBytes() const {
  if (!HasMatrices(kind)) return static_cast<uint64_t>(d_ff * ((d_model + 63) / 64)) * 8;
  const LayerPredictor& predictor = layers.at(0).predictor;
  return predictor.in_proj.weight_bytes() + predictor.out_proj.weight_bytes() +
         static_cast<uint64_t>(d_ff) * sizeof(float);
}

void WritePredictor(const std::string& path, const PredictorFile& file) {
  CHECK(!file.layers.empty() && !file.layers[0].predictor.points.empty());
  GgufWriter writer(path);
  WriteHeader(writer, file, file.layers[0].predictor.points.size());
  std::vector<float> densities;
  const auto n_layers = static_cast<int64_t>(file.layers.size());
  for (int64_t layer = 0; layer < n_layers; ++layer) {
    DeclareLayer(writer, file, layer);
    densities.push_back(file.layers[static_cast<size_t>(layer)].true_density);
  }
  writer.DeclareTensor(kTrueDensity, DType::kF32, {file.layers.size()});
  for (int64_t layer = 0; layer < n_layers; ++layer) WriteLayer(writer, file, layer);
  writer.WriteTensor(kTrueDensity, densities.data(), densities.size() * sizeof(float));
  writer.Finish();
}

PredictorFile ReadPredictor(const std::string& path) {
  auto mapping = std::make_shared<const GgufReader>(path);
  const GgufReader& gguf = *mapping;
  RequireFileType(gguf, kPredictorFileType, "predictor", {Job::kPredictor});
  PredictorFile file;
  file.path = path;
  file.model_fingerprint = gguf.RequireString("thermocline.model_fingerprint");
  file.kind = ReadKind(gguf);
  const int64_t n_layers = ReadCount(gguf, "thermocline.n_layers", 1, kMaxFileLayers);
  file.d_model = ReadCount(gguf, "thermocline.d_model", 1, kMaxWidth);
  file.d_ff = ReadCount(gguf, "thermocline.d_ff", 1, kMaxFileNeurons);
  file.rank = ReadCount(gguf, "thermocline.predictor.rank", 0, kMaxWidth);
  CheckRank(gguf, file);
  const int64_t n_points =
      ReadCount(gguf, "thermocline.predictor.n_points", 1, uint64_t{kMaxPredictorPoints});
  file.calibration_tokens =
      ReadCount(gguf, "thermocline.predictor.calibration_tokens", 0, kMaxTokens);
  file.heldout_tokens = ReadCount(gguf, "thermocline.predictor.heldout_tokens", 1, kMaxTokens);
  file.corpus_hash = gguf.RequireString("thermocline.predictor.corpus_hash");
  file.look_ahead = ReadLookAhead(gguf, file.kind);
  file.unfinished = gguf.GetString(kUnfinished).value_or("");
  const std::vector<float> densities = ReadFloats(gguf, kTrueDensity, 1, n_layers);
  for (int64_t layer = 0; layer < n_layers; ++layer) {
    file.layers.push_back(ReadLayer(gguf, file, layer, n_points));
    const float density = densities[static_cast<size_t>(layer)];
    if (density < 0 || density > 1) {
      FailValue(gguf, kTrueDensity, layer, "a share from 0 to 1", density);
    }
    file.layers.back().true_density = density;
  }
  file.mapping = std::move(mapping);
  return file;
}

void CheckPredictorFits(const PredictorFile& file, const ModelConfig& config,
                        const std::string& model_path,
                        const std::vector<std::string>& fingerprints) {
  const std::string& own = file.model_fingerprint;
  if (std::find(fingerprints.begin(), fingerprints.end(), own) == fingerprints.end()) {
    throw Error({.path = file.path,
                 .what = "the predictor was made for another model",
                 .expected = fmt::format("fingerprint {} ({})", fingerprints.front(), model_path),
                 .found = Printable(own),
                 .hint = "build one for this model",
                 .jobs = {Job::kPredictor}});
  }
  const auto n_layers = static_cast<int64_t>(file.layers.size());
  if (!file.unfinished.empty()) {
    throw Error({.path = file.path,
                 .what = "the predictor is not finished",
                 .expected = fmt::format("{} layers", config.n_layers),
                 .found = std::to_string(n_layers),
                 .hint = "build it again with the same settings, which goes on where it stopped",
                 .jobs = {Job::kPredictor}});
  }
  RequireEqualFfns(config, file.path, "a predictor from a file");
  if (n_layers == config.n_layers && file.d_ff == config.d_ff && file.d_model == config.d_model) {
    return;
  }
  throw Error(
      {.path = file.path,
       .what = "the predictor's shape does not fit the model",
       .expected = fmt::format("{} layers, d_model {}, d_ff {}", config.n_layers, config.d_model,
                               config.d_ff),
       .found = fmt::format("{} layers, d_model {}, d_ff {}", n_layers, file.d_model, file.d_ff)});
}

size_t ChoosePoint(const LayerPredictor& predictor, double wanted_recall) {
  CHECK(!predictor.points.empty());
  // Points ascend in recall and density, so the first that is good enough is the least dense.
  for (size_t p = 0; p < predictor.points.size(); ++p) {
    if (static_cast<double>(predictor.points[p].recall) >= wanted_recall) return p;
  }
  return predictor.points.size() - 1;
}

}  // namespace thermocline
