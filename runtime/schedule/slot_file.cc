#include "runtime/schedule/slot_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "runtime/core/error.h"
#include "runtime/core/fnv1a.h"
#include "runtime/gguf/gguf_writer.h"
#include "runtime/gguf/own_files.h"

namespace thermocline {
namespace {

constexpr const char* kSlotFileType = "thermocline-slot";
constexpr const char* kFingerprintKey = "thermocline.model_fingerprint";
constexpr const char* kAdaptersKey = "thermocline.slot.adapters";
constexpr const char* kSaltKey = "thermocline.slot.salt";
constexpr const char* kFormKey = "thermocline.slot.kv_form";
constexpr const char* kFirstPagesKey = "thermocline.slot.first_pages";
constexpr const char* kTokensName = "tokens";

std::string PagesName(size_t page_class) { return fmt::format("pages.{}", page_class); }

std::string AdaptersOf(const Engine& engine) {
  const std::vector<LoraOption>& loras = engine.model().options().loras;
  if (loras.empty()) return "";
  Fnv1a hash;
  for (const LoraOption& lora : loras) {
    hash.AddText(lora.path);
    hash.AddNumber(lora.scale);
  }
  return hash.Text();
}

void RequireEqual(const GgufReader& gguf, const char* key, const std::string& what,
                  const std::string& expected) {
  const std::string found = gguf.RequireString(key);
  if (found == expected) return;
  throw Error({.path = gguf.path(),
               .what = what,
               .expected = expected.empty() ? "none" : expected,
               .found = found.empty() ? "none" : Printable(found)});
}

}  // namespace

uint64_t WriteSlotFile(Engine& engine, int32_t sequence, std::span<const int32_t> ids,
                       const TextKind& kind, const std::string& path) {
  const KvSequences& kv = engine.sequences();
  CHECK(!ids.empty() && static_cast<int64_t>(ids.size()) == kv.length(sequence));
  if (kind.adapter_set != 0) {
    throw Error({.path = path,
                 .what = "a slot whose text chose its adapters cannot be written",
                 .expected = "a text with the adapters that the model was opened with",
                 .found = "another choice"});
  }
  GgufWriter writer(path);
  writer.Set("general.architecture", GgufValue::string(kSlotFileType));
  writer.Set(kFingerprintKey, GgufValue::string(engine.model().gguf().fingerprint()));
  writer.Set(kAdaptersKey, GgufValue::string(AdaptersOf(engine)));
  writer.Set(kSaltKey, GgufValue::string(kind.salt));
  writer.Set(kFormKey, GgufValue::string(engine.cache().page_form()));
  std::vector<int64_t> first_pages;
  writer.DeclareTensor(kTokensName, DType::kI32, {ids.size()});
  for (size_t c = 0; c < kv.n_classes(); ++c) {
    const KvPageTable table = kv.table(sequence, c);
    first_pages.push_back(table.first_page);
    writer.DeclareTensor(PagesName(c), DType::kI8,
                         {engine.cache().PageBytes(c), table.pages.size()});
  }
  writer.Set(kFirstPagesKey, GgufValue::array(GgufType::kI64, first_pages));
  writer.WriteTensor(kTokensName, ids.data(), ids.size_bytes());
  for (size_t c = 0; c < kv.n_classes(); ++c) {
    std::vector<std::byte> page(engine.cache().PageBytes(c));
    writer.BeginTensor(PagesName(c));
    for (const int32_t id : kv.table(sequence, c).pages) {
      engine.cache().ReadPage(c, id, page);
      writer.Write(page.data(), page.size());
    }
  }
  writer.Finish();
  return writer.bytes_written();
}

SlotFile::SlotFile(const Engine& engine, const std::string& path) : gguf_(path) {
  RequireFileType(gguf_, kSlotFileType, "slot", {});
  RequireEqual(gguf_, kFingerprintKey, "the slot is of another model",
               engine.model().gguf().fingerprint());
  RequireEqual(gguf_, kAdaptersKey, "the slot is of other adapters", AdaptersOf(engine));
  RequireEqual(gguf_, kFormKey, "the slot is of another kind of KV cache",
               engine.cache().page_form());
  kind_ = {.adapter_set = 0, .salt = gguf_.RequireString(kSaltKey)};
  const GgufTensorInfo* const tokens = gguf_.FindTensor(kTokensName);
  const auto most = static_cast<uint64_t>(engine.context_tokens());
  if (tokens == nullptr || tokens->n_elements == 0 || tokens->n_elements > most) {
    throw Error({.path = path,
                 .what = fmt::format("tensor {}", kTokensName),
                 .expected = fmt::format("1 to {} tokens, the context", most),
                 .found = tokens == nullptr ? "none" : std::to_string(tokens->n_elements)});
  }
  ids_ = ReadVector<int32_t>(gguf_, kTokensName, DType::kI32,
                             static_cast<int64_t>(tokens->n_elements));
  const int64_t vocab_size = engine.config().vocab_size;
  for (const int32_t id : ids_) {
    if (id >= 0 && id < vocab_size) continue;
    throw Error({.path = path,
                 .what = fmt::format("tensor {}", kTokensName),
                 .expected = fmt::format("ids from 0 to {}", vocab_size - 1),
                 .found = std::to_string(id)});
  }
  CheckPages(engine.cache().layout(), engine.cache());
}

// Every page that a next row sees is there, and nothing but whole pages.
void SlotFile::CheckPages(const KvLayout& layout, const KvCache& cache) {
  const std::vector<int64_t>* const first_pages = gguf_.GetI64s(kFirstPagesKey);
  const size_t n_classes = layout.classes.size();
  if (first_pages == nullptr || first_pages->size() != n_classes) {
    throw Error({.path = gguf_.path(),
                 .what = fmt::format("key {}", kFirstPagesKey),
                 .expected = fmt::format("{} numbers, one for each kind of layer", n_classes),
                 .found = first_pages == nullptr ? "none" : std::to_string(first_pages->size())});
  }
  first_pages_ = *first_pages;
  const auto n_tokens = static_cast<int64_t>(ids_.size());
  for (size_t c = 0; c < n_classes; ++c) {
    const int64_t most =
        std::min(layout.classes[c].FirstSeen(n_tokens) / kKvPageTokens, KvPagesFor(n_tokens) - 1);
    if (first_pages_[c] < 0 || first_pages_[c] > most) {
      throw Error({.path = gguf_.path(),
                   .what = fmt::format("key {}", kFirstPagesKey),
                   .expected = fmt::format("0 to {}", most),
                   .found = std::to_string(first_pages_[c])});
    }
    const TensorView view =
        gguf_.RequireMatrix(PagesName(c), n_pages(c), static_cast<int64_t>(cache.PageBytes(c)));
    RequireDType(gguf_, PagesName(c), view, DType::kI8);
  }
}

int64_t SlotFile::n_pages(size_t page_class) const {
  return KvPagesFor(static_cast<int64_t>(ids_.size())) - first_pages_[page_class];
}

int32_t SlotFile::Load(Engine& engine) const {
  KvSequences& kv = engine.sequences();
  const int32_t sequence = kv.AddUnwritten(first_pages_, static_cast<int64_t>(ids_.size()));
  for (size_t c = 0; c < kv.n_classes(); ++c) {
    const std::byte* from = gguf_.TensorData(*gguf_.FindTensor(PagesName(c)));
    const uint64_t page_bytes = engine.cache().PageBytes(c);
    for (const int32_t page : kv.table(sequence, c).pages) {
      engine.cache().WritePage(c, page, {from, page_bytes});
      from += page_bytes;
    }
  }
  return sequence;
}

}  // namespace thermocline
