#include <algorithm>
#include <array>
#include <deque>

#include "runtime/core/error.h"
#include "runtime/model/families.h"
#include "runtime/model/families/all.h"

namespace thermocline {
namespace {

const std::deque<Family>& Families() {
  static const std::deque<Family> families = [] {
    std::deque<Family> made;
    for (const FamilyData* data : kAllFamilies) made.emplace_back(*data);
    return made;
  }();
  return families;
}

const Family* FindByName(std::string_view architecture) {
  const auto family = std::ranges::find(Families(), architecture, &Family::architecture);
  return family == Families().end() ? nullptr : &*family;
}

// Returns a number that must be there for a fused tensor to be cut, or one for each layer.
uint64_t LayerNumber(const GgufReader& gguf, const std::string& key, size_t layer) {
  const GgufValue* value = gguf.Find(key);
  if (value != nullptr && value->type == GgufType::kArray) {
    throw Error({.path = gguf.path(),
                 .what = "key " + key,
                 .expected = "one number for all layers, where tensors hold several matrices",
                 .found = "an array, looked at for layer " + std::to_string(layer)});
  }
  return gguf.RequireU64(key, 1, 1U << 20);
}

class FusedTensors {
 public:
  FusedTensors(GgufReader* gguf, const Family& family)
      : gguf_(*gguf), family_(family), prefix_(std::string(family.architecture) + ".") {}

  // Layers count up from 0 until one has no tensors that are fused.
  void Split() {
    for (size_t layer = 0;; ++layer) {
      const bool qkv = SplitQkv(layer);
      const bool gate_up = SplitGateUp(layer);
      if (!qkv && !gate_up) return;
    }
  }

 private:
  static std::string Name(size_t layer, std::string_view part, std::string_view ending) {
    return "blk." + std::to_string(layer) + "." + std::string(part) + std::string(ending);
  }

  bool SplitQkv(size_t layer) {
    bool found = false;
    for (const std::string_view ending : {".weight", ".bias"}) {
      const std::string name = Name(layer, "attn_qkv", ending);
      if (gguf_.FindTensor(name) == nullptr) continue;
      found = true;
      const uint64_t heads = LayerNumber(gguf_, prefix_ + "attention.head_count", layer);
      const std::string kv_key = prefix_ + "attention.head_count_kv";
      const uint64_t kv_heads =
          gguf_.Find(kv_key) == nullptr ? heads : LayerNumber(gguf_, kv_key, layer);
      const uint64_t width = LayerNumber(gguf_, prefix_ + "embedding_length", layer);
      const std::string dim_key = prefix_ + "attention.key_length";
      const uint64_t head_dim =
          gguf_.Find(dim_key) == nullptr ? width / heads : LayerNumber(gguf_, dim_key, layer);
      const std::array<GgufReader::TensorPart, 3> parts = {
          GgufReader::TensorPart{Name(layer, "attn_q", ending), heads * head_dim},
          {Name(layer, "attn_k", ending), kv_heads * head_dim},
          {Name(layer, "attn_v", ending), kv_heads * head_dim}};
      gguf_.SplitTensor(name, parts);
    }
    return found;
  }

  bool SplitGateUp(size_t layer) {
    if (!family_.fused_gate_up) return false;
    const std::string name = Name(layer, "ffn_up", ".weight");
    const std::string gate = Name(layer, "ffn_gate", ".weight");
    if (gguf_.FindTensor(name) == nullptr || gguf_.FindTensor(gate) != nullptr) return false;
    const uint64_t d_ff = LayerNumber(gguf_, prefix_ + "feed_forward_length", layer);
    const std::array<GgufReader::TensorPart, 2> parts = {GgufReader::TensorPart{gate, d_ff},
                                                         {name, d_ff}};
    gguf_.SplitTensor(name, parts);
    return true;
  }

  GgufReader& gguf_;
  const Family& family_;
  std::string prefix_;
};

}  // namespace

const Family& FamilyNamed(std::string_view architecture) {
  const Family* family = FindByName(architecture);
  CHECK(family != nullptr);
  return *family;
}

const Family& FindFamily(const GgufReader& gguf) {
  const std::string architecture = gguf.RequireString("general.architecture");
  std::string known;
  for (const Family& family : Families()) {
    const bool marked = family.marked_by.empty() || gguf.FindTensor(family.marked_by) != nullptr;
    if (family.architecture == architecture && marked) return family;
    if (!family.marked_by.empty()) continue;  // another one has its name
    known += (known.empty() ? "" : ", ") + std::string(family.architecture);
  }
  throw Error({.path = gguf.path(),
               .what = "model family not supported",
               .expected = known,
               .found = Printable(architecture),
               .hint = "look at what the file holds",
               .jobs = {Job::kInspect}});
}

void SplitFusedTensors(GgufReader* gguf) {
  const auto architecture = gguf->GetString("general.architecture");
  const Family* family = architecture ? FindByName(*architecture) : nullptr;
  if (family != nullptr) FusedTensors(gguf, *family).Split();
}

GgufReader OpenModelFile(const std::string& path) {
  GgufReader gguf(path);
  SplitFusedTensors(&gguf);
  return gguf;
}

}  // namespace thermocline
