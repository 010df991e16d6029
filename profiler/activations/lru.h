// The baseline a static placement is measured against: a cache of the same size in every layer that
// keeps the neurons used last. It is an idealised one: it loads single neurons, and loading is
// free.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace thermocline {

// A set of at most `capacity` of the keys 0 to n_keys - 1; the one used longest ago leaves first.
// It is a doubly linked list in two arrays: O(1) per access, no allocation after construction.
class LruSet {
 public:
  LruSet(int64_t n_keys, int64_t capacity);

  bool Contains(int32_t key) const { return resident_[static_cast<size_t>(key)] != 0; }
  // Makes `key` the one used last, and takes it in where it is not there.
  void Touch(int32_t key);
  int64_t size() const { return size_; }

 private:
  void Unlink(int32_t key);
  void PushFront(int32_t key);

  const int32_t head_;  // sentinel: its next is the one used last, its previous the one to leave
  int64_t capacity_;
  int64_t size_ = 0;
  std::vector<int32_t> next_, previous_;  // (n_keys + 1)
  std::vector<uint8_t> resident_;         // (n_keys)
};

// One LruSet per layer, empty at first. For a token, first all its active neurons are looked up,
// and those found are hits; then they are used one by one, ascending. So a token finds what earlier
// ones left, and where more neurons are active than the cache holds, the last of them stay.
class LruBaseline {
 public:
  // sizes: (n_layers) neurons the cache of each layer holds.
  LruBaseline(int64_t d_ff, const std::vector<int64_t>& sizes);

  // active: ascending, unique.
  void OnToken(int64_t layer, std::span<const int32_t> active);

  int64_t hits(int64_t layer) const { return layers_[static_cast<size_t>(layer)].hits; }
  int64_t lookups(int64_t layer) const { return layers_[static_cast<size_t>(layer)].lookups; }

 private:
  struct Layer {
    LruSet set;
    int64_t hits = 0;
    int64_t lookups = 0;
  };
  std::vector<Layer> layers_;
};

}  // namespace thermocline
