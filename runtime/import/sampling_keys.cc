#include "runtime/import/sampling_keys.h"

#include <filesystem>

#include "runtime/import/hf_config.h"
#include "runtime/safetensors/bounded_json.h"

namespace thermocline {
namespace {

struct SamplingKey {
  std::string_view hf;
  std::string_view gguf;
  bool is_integer = false;
};
constexpr SamplingKey kSamplingKeys[] = {
    {"top_k", "general.sampling.top_k", true},
    {"top_p", "general.sampling.top_p"},
    {"min_p", "general.sampling.min_p"},
    {"temperature", "general.sampling.temp"},
    {"repetition_penalty|penalty_repeat", "general.sampling.penalty_repeat"},
};

}  // namespace

GgufKeys SamplingKeys(const std::string& directory) {
  GgufKeys keys;
  const std::string path = directory + "/generation_config.json";
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return keys;
  const HfConfig config(ReadJsonFile(path, {}), path);
  for (const SamplingKey& key : kSamplingKeys) {
    const auto number = config.GetFloat(key.hf);
    if (!number) continue;
    keys.emplace_back(
        std::string(key.gguf),
        key.is_integer
            ? GgufValue::i32(static_cast<int32_t>(*config.GetInt(key.hf, -1, kMaxHfNumber)))
            : GgufValue::f32(static_cast<float>(*number)));
  }
  return keys;
}

}  // namespace thermocline
