// The variable `loop` within a loop.
#pragma once

#include <string>
#include <vector>

#include "runtime/text/jinja/runtime.h"

namespace thermocline::jinja {

class LoopObject : public Object {
 public:
  // `items` outlives the loop's body; a template that keeps `loop` for later sees no neighbours.
  LoopObject(const std::vector<Value>* items, int64_t depth)
      : items_(items), n_items_(static_cast<int64_t>(items->size())), depth_(depth) {}
  std::string type_name() const override { return "loop"; }
  Value Attribute(Runtime& runtime, const std::string& name) override;

  void MoveTo(int64_t index) { index_ = index; }
  void End() { items_ = nullptr; }
  int64_t index() const { return index_; }
  int64_t depth() const { return depth_; }

 private:
  friend class LoopFunction;
  Value Neighbour(int64_t offset) const;

  const std::vector<Value>* items_;
  int64_t n_items_;
  int64_t depth_;
  int64_t index_ = 0;
  std::vector<Value> last_changed_;
  bool has_changed_ = false;
};

}  // namespace thermocline::jinja
