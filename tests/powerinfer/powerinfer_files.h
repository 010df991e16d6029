// The files that make_files.py wrote, and broken variants of them.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "runtime/gguf/gguf_reader.h"
#include "runtime/gguf/gguf_writer.h"
#include "tests/support/temp_dir.h"

namespace thermocline {

inline std::string PowerInferFile(const std::string& name) {
  return std::string(THERMOCLINE_SOURCE_DIR) + "/tests/powerinfer/" + name;
}
inline std::string PowerInferModel(const std::string& type) {
  return PowerInferFile("reglu_" + type + ".powerinfer.gguf");
}

// A tensor of a file, to be changed before it is written again.
struct EditedTensor {
  DType dtype = DType::kF32;
  std::vector<uint64_t> dims;
  std::vector<std::byte> bytes;
};
struct EditedFile {
  std::map<std::string, GgufValue> keys;
  std::map<std::string, EditedTensor> tensors;

  std::vector<int32_t> Ints(const std::string& name) const {
    const EditedTensor& tensor = tensors.at(name);
    const auto* values = reinterpret_cast<const int32_t*>(tensor.bytes.data());
    return {values, values + tensor.bytes.size() / sizeof(int32_t)};
  }
  void SetInts(const std::string& name, const std::vector<int32_t>& values) {
    const auto* bytes = reinterpret_cast<const std::byte*>(values.data());
    tensors[name] = {
        DType::kI32, {values.size()}, {bytes, bytes + values.size() * sizeof(int32_t)}};
  }
};

inline std::string Gpuidx() { return PowerInferFile("reglu.generated.gpuidx"); }

// Copies `source` to `path` with what `edit` changes, under the magic given.
inline void WriteEdited(const std::string& source, const std::string& path,
                        const std::function<void(EditedFile&)>& edit,
                        const std::string& magic = "PWRI") {
  EditedFile file;
  {
    const GgufReader in(source);
    for (const std::string& key : in.keys()) file.keys[key] = *in.Find(key);
    for (const GgufTensorInfo& tensor : in.tensors()) {
      const std::byte* data = in.TensorData(tensor);
      file.tensors[tensor.name] = {tensor.dtype, tensor.dims, {data, data + tensor.n_bytes}};
    }
  }
  edit(file);
  {
    GgufWriter out(path);
    for (const auto& [key, value] : file.keys) out.Set(key, value);
    for (const auto& [name, tensor] : file.tensors) {
      out.DeclareTensor(name, tensor.dtype, tensor.dims);
    }
    for (const auto& [name, tensor] : file.tensors) {
      out.WriteTensor(name, tensor.bytes.data(), tensor.bytes.size());
    }
    out.Finish();
  }
  std::fstream bytes(path, std::ios::in | std::ios::out | std::ios::binary);
  bytes << magic;
}

}  // namespace thermocline
