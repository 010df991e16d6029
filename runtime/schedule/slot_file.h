// What a slot holds, as a file (*.slot.gguf): the tokens, and their pages of the KV cache as they
// lie. Another process of the same model goes on from it.
//
// Keys, all `thermocline.`: model_fingerprint, slot.adapters (a fingerprint of which ones, or
// empty), slot.salt, slot.kv_form (KvCache::page_form), slot.first_pages (by page class). Tensors:
// `tokens` (I32, n) and `pages.N` (I8, page bytes x pages) for each page class that has some.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "runtime/engine/engine.h"
#include "runtime/gguf/gguf_reader.h"
#include "runtime/schedule/prefix_cache.h"

namespace thermocline {

// Returns the file's size. Throws Error where it cannot be written, or where the text was fed with
// adapters of its own choice, which are not known in another process.
// REQUIRES: ids are the sequence's tokens, one or more.
uint64_t WriteSlotFile(Engine& engine, int32_t sequence, std::span<const int32_t> ids,
                       const TextKind& kind, const std::string& path);

class SlotFile {
 public:
  // Throws Error where the file is not there, is broken, or is not of this model, its adapters and
  // its KV cache, or longer than the context. What keys and values it has is not known to be true.
  SlotFile(const Engine& engine, const std::string& path);

  const std::vector<int32_t>& ids() const { return ids_; }
  const TextKind& kind() const { return kind_; }
  uint64_t n_bytes() const { return gguf_.file_bytes(); }
  // That Load needs.
  int64_t n_pages(size_t page_class) const;
  // Returns a new sequence that holds it. Throws Error when too few pages are free.
  int32_t Load(Engine& engine) const;

 private:
  void CheckPages(const KvLayout& layout, const KvCache& cache);

  GgufReader gguf_;
  std::vector<int32_t> ids_;
  std::vector<int64_t> first_pages_;  // by class
  TextKind kind_;
};

}  // namespace thermocline
