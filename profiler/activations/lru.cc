#include "profiler/activations/lru.h"

#include "runtime/core/error.h"

namespace thermocline {

LruSet::LruSet(int64_t n_keys, int64_t capacity)
    : head_(static_cast<int32_t>(n_keys)),
      capacity_(capacity),
      next_(static_cast<size_t>(n_keys) + 1, head_),
      previous_(static_cast<size_t>(n_keys) + 1, head_),
      resident_(static_cast<size_t>(n_keys), 0) {
  CHECK(n_keys >= 0 && n_keys < INT32_MAX && capacity >= 0 && capacity <= n_keys);
}

void LruSet::Unlink(int32_t key) {
  const int32_t next = next_[static_cast<size_t>(key)];
  const int32_t previous = previous_[static_cast<size_t>(key)];
  next_[static_cast<size_t>(previous)] = next;
  previous_[static_cast<size_t>(next)] = previous;
}

void LruSet::PushFront(int32_t key) {
  const int32_t first = next_[static_cast<size_t>(head_)];
  next_[static_cast<size_t>(key)] = first;
  previous_[static_cast<size_t>(key)] = head_;
  previous_[static_cast<size_t>(first)] = key;
  next_[static_cast<size_t>(head_)] = key;
}

void LruSet::Touch(int32_t key) {
  DCHECK(key >= 0 && key < head_);
  if (capacity_ == 0) return;
  if (Contains(key)) {
    Unlink(key);
  } else if (size_ == capacity_) {
    const int32_t oldest = previous_[static_cast<size_t>(head_)];
    Unlink(oldest);
    resident_[static_cast<size_t>(oldest)] = 0;
  } else {
    ++size_;
  }
  PushFront(key);
  resident_[static_cast<size_t>(key)] = 1;
}

LruBaseline::LruBaseline(int64_t d_ff, const std::vector<int64_t>& sizes) {
  layers_.reserve(sizes.size());
  for (const int64_t size : sizes) layers_.push_back({LruSet(d_ff, size)});
}

void LruBaseline::OnToken(int64_t layer, std::span<const int32_t> active) {
  Layer& l = layers_[static_cast<size_t>(layer)];
  for (const int32_t key : active) l.hits += l.set.Contains(key) ? 1 : 0;
  l.lookups += static_cast<int64_t>(active.size());
  for (const int32_t key : active) l.set.Touch(key);
}

}  // namespace thermocline
