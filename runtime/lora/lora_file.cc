#include "runtime/lora/lora_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>

#include "cpu_kernels/kernels.h"
#include "runtime/core/error.h"
#include "runtime/import/imported_tensor.h"
#include "runtime/lora/lora_reader.h"

namespace thermocline {
namespace {

// Widens a row that may lie at any address.
void WidenRow(const TensorView& matrix, int64_t row, float* out) {
  std::vector<uint64_t> aligned;  // 16-bit floats are read as such
  const std::byte* from = matrix.row(row);
  if (reinterpret_cast<uintptr_t>(from) % alignof(float) != 0) {
    const auto n_bytes = static_cast<size_t>(RowBytes(matrix.dtype, matrix.cols));
    aligned.resize(n_bytes / sizeof(uint64_t) + 1);
    std::memcpy(aligned.data(), from, n_bytes);
    from = reinterpret_cast<const std::byte*>(aligned.data());
  }
  CpuKernels().dequantize_f32(matrix.dtype, from, 0, matrix.cols, out);
}

}  // namespace

LoraShape ShapeOf(LoraTarget target, const ModelConfig& config, int64_t layer) {
  const LayerConfig& l = config.layer(layer);
  switch (target) {
    case LoraTarget::kQ:
      return {l.attention.q_dim(), config.d_model};
    case LoraTarget::kK:
    case LoraTarget::kV:
      return {l.attention.kv_dim(), config.d_model};
    case LoraTarget::kOutput:
      return {config.d_model, l.attention.q_dim()};
    case LoraTarget::kGate:
    case LoraTarget::kUp:
      return {l.ffn.d_ff, config.d_model};
    case LoraTarget::kDown:
      return {config.d_model, l.ffn.d_ff};
  }
  return {};
}

std::string_view NameOf(LoraTarget target, const Family& family) {
  constexpr std::string_view kNames[] = {"attn_q",   "attn_k", "attn_v",  "attn_output",
                                         "ffn_gate", "ffn_up", "ffn_down"};
  const bool plain = target == LoraTarget::kGate && family.ffn == FfnKind::kPlain;
  return plain ? "ffn_up" : kNames[static_cast<size_t>(target)];
}

std::vector<float> LoraMatrix::A() const {
  std::vector<float> values(static_cast<size_t>(rank * a.cols));
  for (int64_t r = 0; r < rank; ++r) WidenRow(a, r, values.data() + r * a.cols);
  return values;
}

std::vector<float> LoraMatrix::B(float factor) const {
  std::vector<float> values(b_rows.size() * static_cast<size_t>(rank));
  for (size_t i = 0; i < b_rows.size(); ++i) {
    WidenRow(b, b_rows[i], values.data() + i * static_cast<size_t>(rank));
  }
  for (float& value : values) value *= factor;
  return values;
}

LoraFile::LoraFile(const std::string& path, const ModelConfig& config)
    : path_(path), layers_(static_cast<size_t>(config.n_layers)), d_model_(config.d_model) {
  RequireNoEncoder(config, path, "an adapter");
}

LoraFile::LoraFile(const std::string& path, double scale, const ModelConfig& config,
                   const Family& family)
    : LoraFile(path, config) {
  LoraReader reader(config, family, scale, this);
  if (std::filesystem::is_directory(path)) {
    reader.ReadPeft();
  } else {
    reader.ReadGguf();
  }
}

LoraFile::LoraFile(const std::string& path, const LoraBytes& bytes, double scale,
                   const ModelConfig& config, const Family& family)
    : LoraFile(path, config) {
  LoraReader reader(config, family, scale, this);
  if (bytes.peft_config) {
    reader.ReadPeft(*bytes.peft_config, bytes.weights);
  } else {
    reader.ReadGguf(bytes.weights);
  }
}

int64_t LoraFile::max_rank() const {
  int64_t most = 0;
  for (const auto& layer : layers_) {
    for (const LoraMatrix& matrix : layer) most = std::max(most, matrix.rank);
  }
  return most;
}

int64_t LoraFile::n_matrices() const {
  int64_t n = 0;
  for (const auto& layer : layers_) {
    for (const LoraMatrix& matrix : layer) n += matrix.rank > 0 ? 1 : 0;
  }
  return n;
}

uint64_t LoraFile::AttentionBytes(int64_t layer) const {
  int64_t floats = 0;
  for (size_t t = 0; t <= static_cast<size_t>(LoraTarget::kOutput); ++t) {
    const LoraMatrix& m = layers_[static_cast<size_t>(layer)][t];
    if (m.rank > 0) floats += m.rank * (m.a.cols + static_cast<int64_t>(m.b_rows.size()));
  }
  return static_cast<uint64_t>(floats) * sizeof(float);
}

uint64_t LoraFile::FfnBytes(int64_t layer, int64_t n_neurons) const {
  int64_t floats = 0;
  for (const LoraTarget target : {LoraTarget::kGate, LoraTarget::kUp, LoraTarget::kDown}) {
    floats += matrix(layer, target).rank * (d_model_ + n_neurons);
  }
  return n_neurons == 0 ? 0 : static_cast<uint64_t>(floats) * sizeof(float);
}

// ---- LoraReader: what both forms have in common ----

LoraReader::LoraReader(const ModelConfig& config, const Family& family, double user_scale,
                       LoraFile* file)
    : config_(config), family_(family), user_scale_(user_scale), file_(*file) {
  if (std::isfinite(user_scale)) return;
  Fail("the scale of an adapter", "a number", fmt::format("{}", user_scale));
}

void LoraReader::Fail(std::string what, std::string expected, std::string found,
                      std::string hint) const {
  throw Error({.path = file_.path_,
               .what = std::move(what),
               .expected = std::move(expected),
               .found = std::move(found),
               .hint = std::move(hint),
               .settings = {{Setting::kLora}}});
}

void LoraReader::AddFactor(Module module, bool is_a, const TensorView& factor) {
  const auto [entry, is_new] = modules_.try_emplace({module.layer, module.stem}, std::move(module));
  TensorView& place = is_a ? entry->second.a : entry->second.b;
  if (!place.empty()) {
    Fail(fmt::format("module {}", Printable(entry->second.name)),
         fmt::format("one {}", is_a ? "A" : "B"), "two");
  }
  place = factor;
}

// Which rows of the module are which target's. A family's fused matrices are parts behind each
// other.
std::vector<LoraReader::Part> LoraReader::PartsOf(const Module& module) const {
  const auto rows = [&](LoraTarget target) { return ShapeOf(target, config_, module.layer).d_out; };
  if (module.stem == "attn_qkv") {
    return {{LoraTarget::kQ, 0},
            {LoraTarget::kK, rows(LoraTarget::kQ)},
            {LoraTarget::kV, rows(LoraTarget::kQ) + rows(LoraTarget::kK)}};
  }
  if (module.stem == "ffn_up") {
    if (family_.ffn == FfnKind::kPlain) return {{LoraTarget::kGate, 0}};
    const int64_t d_ff = rows(LoraTarget::kGate);
    if (family_.fused_gate_up && module.b.rows == 2 * d_ff) {
      return {{LoraTarget::kGate, 0}, {LoraTarget::kUp, d_ff}};
    }
  }
  for (size_t i = 0; i < kLoraTargets; ++i) {
    const auto target = static_cast<LoraTarget>(i);
    if (NameOf(target, family_) == module.stem) return {{target, 0}};
  }
  Fail(fmt::format("module {} cannot be adapted here", Printable(module.name)),
       "the matrices of attention and of the FFN", module.stem,
       "train the adapter without embeddings and output head");
}

// A layer that reads another's keys and values has none of its own to add to.
void LoraReader::CheckComputed(const Module& module, LoraTarget target) const {
  const AttentionConfig& attention = config_.layer(module.layer).attention;
  if (attention.has_own_kv() || (target != LoraTarget::kK && target != LoraTarget::kV)) return;
  Fail(fmt::format("module {} cannot be adapted here", Printable(module.name)),
       "matrices that the model computes with",
       fmt::format("keys or values of layer {}, which reads those of layer {}", module.layer,
                   attention.kv_layer),
       "train the adapter without them");
}

void LoraReader::PutModule(const Module& module, double scale) {
  const std::string what = fmt::format("module {}", Printable(module.name));
  if (module.a.empty() || module.b.empty()) {
    Fail(what, "both factors, A and B", module.a.empty() ? "B alone" : "A alone");
  }
  const std::vector<Part> parts = PartsOf(module);
  for (const Part& part : parts) CheckComputed(module, part.target);
  const int64_t d_in = ShapeOf(parts.front().target, config_, module.layer).d_in;
  const int64_t d_out =
      parts.back().first_row + ShapeOf(parts.back().target, config_, module.layer).d_out;
  const int64_t rank = module.a.rows;
  if (module.a.cols != d_in || module.b.rows != d_out || module.b.cols != rank) {
    Fail(what, fmt::format("A of (r, {}) and B of ({}, r), as the model has it", d_in, d_out),
         fmt::format("({}, {}) and ({}, {})", rank, module.a.cols, module.b.rows, module.b.cols),
         "use the adapter with the model it was made for");
  }
  const AttentionConfig& a = config_.layer(module.layer).attention;
  const HeadLayout heads = {a.n_heads, a.n_kv_heads, a.head_dim, config_.rope.rot_dim};
  for (const Part& part : parts) {
    LoraMatrix& matrix =
        file_.layers_[static_cast<size_t>(module.layer)][static_cast<size_t>(part.target)];
    if (matrix.rank > 0) Fail(what, "each matrix once", "a matrix that another module changes");
    matrix.rank = rank;
    matrix.scale = static_cast<float>(scale);
    matrix.a = module.a;
    matrix.b = module.b;
    const int64_t n = ShapeOf(part.target, config_, module.layer).d_out;
    for (int64_t r = 0; r < n; ++r) {
      const int64_t row = SourceRow(module.transform, heads, part.first_row + r);
      matrix.b_rows.push_back(static_cast<int32_t>(row));
    }
  }
}

void LoraReader::Finish(const std::function<double(int64_t)>& alpha_scale) {
  if (modules_.empty()) Fail("the adapter", "factors of matrices of the model", "none");
  for (const auto& [key, module] : modules_) {
    const int64_t rank = module.a.rows;
    if (!module.a.empty() && (rank < 1 || rank > kMaxLoraRank)) {
      Fail(fmt::format("module {}", Printable(module.name)),
           fmt::format("a rank from 1 to {}", kMaxLoraRank), std::to_string(rank));
    }
    PutModule(module, user_scale_ * alpha_scale(std::max<int64_t>(rank, 1)));
  }
}

}  // namespace thermocline
