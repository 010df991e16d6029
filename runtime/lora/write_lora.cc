#include "runtime/lora/write_lora.h"

#include <fmt/format.h>

#include <cmath>
#include <functional>

#include "runtime/core/error.h"
#include "runtime/gguf/gguf_writer.h"

namespace thermocline {
namespace {

void ForEachMatrix(const LoraFile& file, const Family& family,
                   const std::function<void(const std::string&, const LoraMatrix&)>& fn) {
  for (int64_t l = 0; l < file.n_layers(); ++l) {
    for (size_t t = 0; t < kLoraTargets; ++t) {
      const auto target = static_cast<LoraTarget>(t);
      const LoraMatrix& matrix = file.matrix(l, target);
      if (matrix.rank == 0) continue;
      fn(fmt::format("blk.{}.{}.weight", l, NameOf(target, family)), matrix);
    }
  }
}

// The alpha of all matrices: what their scale is times their rank.
float AlphaOf(const LoraFile& file, const Family& family) {
  float alpha = 0;
  ForEachMatrix(file, family, [&](const std::string& name, const LoraMatrix& matrix) {
    const float own = matrix.scale * static_cast<float>(matrix.rank);
    if (alpha == 0) alpha = own;
    if (std::abs(own - alpha) <= 1e-5F * std::abs(alpha) && own != 0) return;
    throw Error({.path = file.path(),
                 .what = "the adapter cannot be written as a GGUF: tensor " + name,
                 .expected = fmt::format("an alpha of {} as the others, and not 0", alpha),
                 .found = fmt::format("{}", own)});
  });
  return alpha;
}

}  // namespace

void WriteLora(const LoraFile& file, const ModelConfig& config, const Family& family,
               const std::string& output) {
  const float alpha = AlphaOf(file, family);
  GgufWriter writer(output);
  writer.Set("general.architecture", GgufValue::string(config.architecture));
  writer.Set("general.type", GgufValue::string("adapter"));
  writer.Set("adapter.type", GgufValue::string("lora"));
  writer.Set("adapter.lora.alpha", GgufValue::f32(alpha));
  ForEachMatrix(file, family, [&](const std::string& name, const LoraMatrix& matrix) {
    const auto rank = static_cast<uint64_t>(matrix.rank);
    writer.DeclareTensor(name + ".lora_a", DType::kF32,
                         {static_cast<uint64_t>(matrix.a.cols), rank});
    writer.DeclareTensor(name + ".lora_b", DType::kF32, {rank, matrix.b_rows.size()});
  });
  ForEachMatrix(file, family, [&](const std::string& name, const LoraMatrix& matrix) {
    const std::vector<float> a = matrix.A();
    const std::vector<float> b = matrix.B(1);
    writer.WriteTensor(name + ".lora_a", a.data(), a.size() * sizeof(float));
    writer.WriteTensor(name + ".lora_b", b.data(), b.size() * sizeof(float));
  });
  writer.Finish();
}

}  // namespace thermocline
