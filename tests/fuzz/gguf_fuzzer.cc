// A libFuzzer harness of the GGUF parser: whatever the bytes, there is an Error or a file whose
// every value and tensor can be used.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "runtime/core/error.h"
#include "runtime/gguf/gguf_reader.h"

namespace {

using thermocline::Error;
using thermocline::GgufReader;

// Optional keys may be of any type, so a typed getter gives the value or an Error.
template <typename Get>
void Call(Get get) {
  try {
    get();
  } catch (const Error&) {
  }
}

void UseKeys(const GgufReader& reader) {
  for (const std::string& key : reader.keys()) {
    if (reader.Find(key) == nullptr) std::abort();
    Call([&] { (void)reader.GetString(key); });
    Call([&] { (void)reader.GetU64(key); });
    Call([&] { (void)reader.GetF64(key); });
    Call([&] { (void)reader.GetBool(key); });
    Call([&] { (void)reader.GetStrings(key); });
    Call([&] { (void)reader.GetI64s(key); });
    Call([&] { (void)reader.RequireU64(key, 1, 100); });
  }
}

unsigned UseTensors(const GgufReader& reader) {
  unsigned sum = 0;
  for (const thermocline::GgufTensorInfo& tensor : reader.tensors()) {
    if (reader.FindTensor(tensor.name) != &tensor || tensor.n_bytes == 0) std::abort();
    const std::byte* data = reader.TensorData(tensor);
    sum += std::to_integer<unsigned>(data[0]) + std::to_integer<unsigned>(data[tensor.n_bytes - 1]);
    const auto view = reader.RequireMatrix(tensor.name, static_cast<int64_t>(tensor.rows()),
                                           static_cast<int64_t>(tensor.cols()));
    if (view.weight_bytes() != tensor.n_bytes) std::abort();
  }
  return sum;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const GgufReader reader({reinterpret_cast<const std::byte*>(data), size}, "fuzz.gguf");
    UseKeys(reader);
    volatile unsigned keep = UseTensors(reader);
    (void)keep;
    if (reader.fingerprint().size() != 16) std::abort();
  } catch (const Error& error) {
    for (const char* c = error.what(); *c != '\0'; ++c) {
      if (static_cast<unsigned char>(*c) < 0x20) std::abort();  // not one line
    }
  }
  return 0;
}
