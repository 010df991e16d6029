// GGUF adapters: NAME.lora_a (r, d_in) and NAME.lora_b (d_out, r), NAME that of a tensor of the
// model, with its rows in the model's order.
#include <fmt/format.h>

#include <charconv>
#include <cmath>

#include "runtime/core/error.h"
#include "runtime/lora/lora_reader.h"

namespace thermocline {
namespace {

constexpr std::string_view kEndingA = ".weight.lora_a";
constexpr std::string_view kEndingB = ".weight.lora_b";

// Splits "blk.7.attn_q" into 7 and "attn_q". Returns whether it is of a layer.
bool SplitLayerName(std::string_view name, int64_t* layer, std::string* stem) {
  constexpr std::string_view kBlock = "blk.";
  if (!name.starts_with(kBlock)) return false;
  name.remove_prefix(kBlock.size());
  const auto parsed = std::from_chars(name.data(), name.data() + name.size(), *layer);
  if (parsed.ec != std::errc() || parsed.ptr == name.data() + name.size() || *parsed.ptr != '.') {
    return false;
  }
  *stem = parsed.ptr + 1 - name.data() < static_cast<int64_t>(name.size())
              ? std::string(parsed.ptr + 1, name.data() + name.size())
              : std::string();
  return true;
}

}  // namespace

void LoraReader::ReadGguf() {
  file_.gguf_.emplace(file_.path_);
  PutGguf();
}

void LoraReader::ReadGguf(std::span<const std::byte> bytes) {
  file_.gguf_.emplace(bytes, file_.path_);
  PutGguf();
}

void LoraReader::PutGguf() {
  const GgufReader& gguf = *file_.gguf_;
  const auto require = [&](const char* key, const std::string& expected) {
    const std::string found = gguf.GetString(key).value_or("no such key");
    if (found != expected) Fail(fmt::format("key {}", key), expected, Printable(found));
  };
  require("general.type", "adapter");
  require("adapter.type", "lora");
  require("general.architecture", config_.architecture);
  const double alpha = gguf.GetF64("adapter.lora.alpha").value_or(0);
  for (const GgufTensorInfo& tensor : gguf.tensors()) {
    const std::string_view name = tensor.name;
    const std::string what = fmt::format("tensor {}", Printable(tensor.name));
    const bool is_a = name.ends_with(kEndingA);
    if (!is_a && !name.ends_with(kEndingB)) {
      Fail(what, "a name with .weight.lora_a or .weight.lora_b", "another",
           "biases, norms and whole matrices of an adapter are not computed");
    }
    Module module;
    module.name = name.substr(0, name.size() - kEndingA.size());
    if (!SplitLayerName(module.name, &module.layer, &module.stem) || module.layer < 0 ||
        module.layer >= config_.n_layers) {
      Fail(what, fmt::format("a matrix of layers 0 to {}", config_.n_layers - 1), "another",
           "adapters of embeddings and of the output head are not computed");
    }
    if (tensor.dims.size() != 2) {
      Fail(what, "a matrix", fmt::format("{} dimensions", tensor.dims.size()));
    }
    const bool fits = tensor.cols() <= INT32_MAX && tensor.rows() <= INT32_MAX;
    if (!fits || !GetDTypeInfo(tensor.dtype).computable) {
      Fail(what, WeightDTypeNames(), std::string(DTypeName(tensor.dtype)));
    }
    AddFactor(std::move(module), is_a,
              gguf.RequireMatrix(tensor.name, static_cast<int64_t>(tensor.rows()),
                                 static_cast<int64_t>(tensor.cols())));
  }
  // As llama.cpp has it: without an alpha the factors are as they are.
  Finish([&](int64_t rank) { return alpha == 0 ? 1 : alpha / static_cast<double>(rank); });
}

}  // namespace thermocline
