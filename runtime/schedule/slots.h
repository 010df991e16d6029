// The places where texts run. A slot keeps what its last text left in the KV cache, to the token,
// until another text takes it or its pages are needed.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "runtime/device/kv_pages.h"
#include "runtime/schedule/prefix_cache.h"
#include "runtime/schedule/request.h"

namespace thermocline {

struct Slot {
  int32_t sequence = -1;     // in the KV cache; -1: holds nothing
  std::vector<int32_t> ids;  // that the sequence holds, while the slot is idle
  TextKind kind;             // of them
  PrefixCache::Place place;  // how far the prefix cache knows them
  // What it holds came from a file. Only who asks for this slot goes on from it, and none of it
  // goes into the prefix cache, where others would find it.
  bool from_file = false;
  bool busy = false;
  RequestId request = -1;  // that it works on, or worked on last
  int32_t index = 0;       // of its continuations
  uint64_t last_use = 0;   // by the prefix cache's clock
};

class Slots {
 public:
  Slots(KvSequences& kv, int32_t n_slots);
  ~Slots();

  int32_t size() const { return static_cast<int32_t>(slots_.size()); }
  Slot& at(int32_t slot) { return slots_[static_cast<size_t>(slot)]; }
  const Slot& at(int32_t slot) const { return slots_[static_cast<size_t>(slot)]; }
  bool AnyIdle() const;

  // How many of the first max_tokens of ids an idle slot holds and can go on from.
  int64_t Reusable(int32_t slot, const TextKind& kind, std::span<const int32_t> ids,
                   int64_t max_tokens) const;
  // The idle slot that holds more than `similarity` of ids, and most of them; else the one that was
  // not used for longest. Or none.
  std::optional<int32_t> Choose(const TextKind& kind, std::span<const int32_t> ids,
                                double similarity) const;
  // Gives the pages of an idle slot back; what the prefix cache has of them stays there.
  void Empty(int32_t slot);
  // The idle slot that holds something and was not used for longest, or none.
  std::optional<int32_t> Oldest() const;

 private:
  KvSequences& kv_;
  std::vector<Slot> slots_;
};

}  // namespace thermocline
