// A libFuzzer harness of LoRA adapters: a GGUF, or a PEFT directory's adapter_config.json, a zero
// byte and its adapter_model.safetensors; behind either a byte that chooses the model. Whatever the
// bytes, there is an Error of one line, or factors whose every value can be read.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/import/import_model.h"
#include "runtime/lora/lora_file.h"
#include "runtime/model/families.h"
#include "tests/fuzz/use_tokenizer.h"

namespace {

struct FuzzModel {
  const thermocline::Family* family;
  thermocline::ModelConfig config;
};

// Families whose names and fused matrices differ.
std::vector<FuzzModel> ReadModels() {
  std::string folder = std::filesystem::temp_directory_path() / "lora_fuzz.XXXXXX";
  if (mkdtemp(folder.data()) == nullptr) std::abort();
  std::vector<FuzzModel> models;
  for (const char* name : {"llama", "phi3", "gpt2", "falcon40"}) {
    thermocline::ImportOptions options;
    options.rule = thermocline::ParseTypeRule("F32");
    const std::string path = folder + "/" + name + ".gguf";
    thermocline::ImportModel(std::string(THERMOCLINE_SOURCE_DIR) + "/tests/golden/families/" + name,
                             path, options);
    const auto gguf = thermocline::OpenModelFile(path);
    const thermocline::Family& family = thermocline::FindFamily(gguf);
    models.push_back({&family, thermocline::ReadModelConfig(gguf, family)});
  }
  std::filesystem::remove_all(folder);
  return models;
}

double Sum(const std::vector<float>& values) {
  double sum = 0;
  for (const float value : values) sum += value;
  return sum;
}

double UseAdapter(const thermocline::LoraFile& file, const FuzzModel& model) {
  using thermocline::LoraTarget;
  if (file.n_matrices() == 0 || file.max_rank() < 1) std::abort();
  double sum = 0;
  for (int64_t l = 0; l < file.n_layers(); ++l) {
    for (size_t t = 0; t < thermocline::kLoraTargets; ++t) {
      const auto target = static_cast<LoraTarget>(t);
      const thermocline::LoraMatrix& matrix = file.matrix(l, target);
      if (matrix.rank == 0) continue;
      const auto shape = thermocline::ShapeOf(target, model.config, l);
      const std::vector<float> a = matrix.A();
      const std::vector<float> b = matrix.B(matrix.scale);
      if (a.size() != static_cast<size_t>(matrix.rank * shape.d_in)) std::abort();
      if (b.size() != static_cast<size_t>(matrix.rank * shape.d_out)) std::abort();
      sum += Sum(a) + Sum(b);
    }
    sum += static_cast<double>(file.AttentionBytes(l) + file.FfnBytes(l, 1));
  }
  return sum;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::vector<FuzzModel> models = ReadModels();
  if (size == 0) return 0;
  const FuzzModel& model = models[data[size - 1] % models.size()];
  const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size - 1);
  thermocline::LoraBytes adapter{bytes, std::nullopt};
  const std::string_view text(reinterpret_cast<const char*>(data), size - 1);
  if (!text.starts_with("GGUF")) {
    const size_t end = std::min(text.find('\0'), text.size());
    adapter.peft_config = text.substr(0, end);
    adapter.weights = bytes.subspan(std::min(end + 1, bytes.size()));
  }
  thermocline::ExpectOneLineErrors([&] {
    const thermocline::LoraFile file("fuzz", adapter, 1, model.config, *model.family);
    volatile double keep = UseAdapter(file, model);
    (void)keep;
  });
  return 0;
}
