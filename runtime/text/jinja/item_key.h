// What filters look at in an item: the item itself, or an attribute of it, which may be a path.
#pragma once

#include <string>
#include <vector>

#include "runtime/text/jinja/runtime.h"

namespace thermocline::jinja {

class ItemKey {
 public:
  // `attribute`: a name, a path "a.b.0", an index, or undefined for the item itself.
  explicit ItemKey(const Value& attribute);

  // Without case sensitivity, a string's key is its lower-case form.
  Value Of(Runtime& runtime, const Value& item, bool case_sensitive = true) const;

 private:
  std::vector<Value> path_;
};

}  // namespace thermocline::jinja
