// A libFuzzer harness of safetensors headers and of indexes of shards: whatever the bytes, there is
// an Error of one line, or tensors whose every byte can be read.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "runtime/safetensors/safetensors.h"
#include "tests/fuzz/use_tokenizer.h"

namespace {

unsigned UseTensors(std::span<const std::byte> bytes) {
  unsigned sum = 0;
  uint64_t total = 0;
  for (const auto& tensor : thermocline::ParseSafetensors(bytes, "fuzz.safetensors")) {
    if (tensor.n_bytes != tensor.n_elements * tensor.info().bytes) std::abort();
    if (tensor.begin + tensor.n_bytes > bytes.size() || tensor.n_bytes == 0) std::abort();
    sum += std::to_integer<unsigned>(bytes[tensor.begin]) +
           std::to_integer<unsigned>(bytes[tensor.begin + tensor.n_bytes - 1]);
    total += tensor.n_bytes;
  }
  if (total > bytes.size()) std::abort();  // tensors lie apart
  return sum;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
  thermocline::ExpectOneLineErrors([&] {
    volatile unsigned keep = UseTensors(bytes);
    (void)keep;
  });
  thermocline::ExpectOneLineErrors([&] {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    for (const auto& [tensor, file] : thermocline::ParseSafetensorsIndex(text, "index.json")) {
      if (file.empty() || file.find('/') != std::string::npos) std::abort();
    }
  });
  return 0;
}
