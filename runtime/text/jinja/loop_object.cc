#include "runtime/text/jinja/loop_object.h"

#include <utility>

#include "runtime/text/jinja/operators.h"

namespace thermocline::jinja {

// loop.cycle("odd", "even") and loop.changed(value).
class LoopFunction : public Object {
 public:
  LoopFunction(LoopObject* loop, bool cycles) : loop_(loop), cycles_(cycles) {}
  bool callable() const override { return true; }

  Value Call(Runtime& runtime, const Arguments& arguments) override {
    if (cycles_) {
      if (arguments.positional.empty()) Fail("loop.cycle needs arguments");
      const auto n_values = static_cast<int64_t>(arguments.positional.size());
      return arguments.positional[static_cast<size_t>(loop_->index_ % n_values)];
    }
    bool same = loop_->has_changed_ && loop_->last_changed_.size() == arguments.positional.size();
    for (size_t i = 0; same && i < arguments.positional.size(); ++i) {
      same = Equals(runtime, loop_->last_changed_[i], arguments.positional[i]);
    }
    loop_->has_changed_ = true;
    loop_->last_changed_ = arguments.positional;
    return Value::Bool(!same);
  }

 private:
  LoopObject* loop_;
  bool cycles_;
};

Value LoopObject::Neighbour(int64_t offset) const {
  const int64_t at = index_ + offset;
  if (items_ == nullptr || at < 0 || at >= n_items_) {
    return Value::Undefined("the item beyond the loop's end");
  }
  return (*items_)[static_cast<size_t>(at)];
}

Value LoopObject::Attribute(Runtime& runtime, const std::string& name) {
  const std::pair<std::string_view, int64_t> numbers[] = {
      {"index", index_ + 1},  {"index0", index_}, {"revindex", n_items_ - index_},
      {"length", n_items_},   {"depth", depth_},  {"revindex0", n_items_ - index_ - 1},
      {"depth0", depth_ - 1},
  };
  for (const auto& [key, number] : numbers) {
    if (key == name) return Value::Int(number);
  }
  if (name == "first") return Value::Bool(index_ == 0);
  if (name == "last") return Value::Bool(index_ + 1 == n_items_);
  if (name == "previtem") return Neighbour(-1);
  if (name == "nextitem") return Neighbour(1);
  if (name == "cycle" || name == "changed") {
    return Value::Of(runtime.Make<LoopFunction>(this, name == "cycle"));
  }
  return Object::Attribute(runtime, name);
}

}  // namespace thermocline::jinja
