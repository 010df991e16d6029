// A libFuzzer harness of config.json: whatever the text, there is an Error of one line or the keys
// of a GGUF.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "runtime/import/config_keys.h"
#include "runtime/import/hf_config.h"
#include "runtime/safetensors/bounded_json.h"
#include "tests/fuzz/use_tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  thermocline::ExpectOneLineErrors([&] {
    const thermocline::HfConfig config(thermocline::ParseBoundedJson(text, "config.json", {}),
                                       "config.json");
    const thermocline::HfImport& family = thermocline::FindHfImport(config);
    const thermocline::ImportedConfig imported = thermocline::MapConfig(family, config);
    for (const auto& [key, value] : imported.keys) {
      if (key.empty()) std::abort();
    }
    for (const thermocline::ImportedTensor& tensor : imported.tensors) {
      if (static_cast<size_t>(tensor.cols()) != tensor.computed.size()) std::abort();
    }
  });
  return 0;
}
