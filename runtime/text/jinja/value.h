// The values of a template: Python's, as far as chat templates see them. Lists, dicts and objects
// are cells that the Runtime of one rendering owns; a Value points to them and is as cheap to copy
// as a pointer. Cells may hold each other in a ring, and are freed together at the end.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "runtime/text/jinja/budget.h"

namespace thermocline::jinja {

class Dict;
class Object;
class Runtime;
struct List;

// A string that values share. It gives its bytes back to the budget that counted them.
struct StringData {
  StringData(std::string content, Budget* counted_by)
      : text(std::move(content)), budget(counted_by) {}
  ~StringData() {
    if (budget != nullptr) budget->Return(CountedBytes(text.size()));
  }
  StringData(const StringData&) = delete;
  StringData& operator=(const StringData&) = delete;
  static uint64_t CountedBytes(size_t n_bytes) { return sizeof(StringData) + 32 + n_bytes; }

  std::string text;
  Budget* budget;  // null for constants of the template
};

enum class Kind : uint8_t {  // in the order of Value's alternatives
  kUndefined,
  kNone,
  kBool,
  kInt,
  kFloat,
  kString,
  kList,  // a tuple, too
  kDict,
  kObject,
};

class Value {
 public:
  // Undefined, without a name.
  Value() = default;
  // `about` is what messages call it: "'tools'", "'dict object' has no attribute 'name'".
  static Value Undefined(std::string about);
  static Value None() { return Value(NoneTag{}); }
  static Value Bool(bool value) { return Value(value); }
  static Value Int(int64_t value) { return Value(value); }
  static Value Float(double value) { return Value(value); }
  // A string that no budget counts, for what the template itself spells out.
  static Value Constant(std::string text);
  static Value Of(std::shared_ptr<const StringData> data) { return Value(std::move(data)); }
  static Value Of(List* list) { return Value(list); }
  static Value Of(Dict* dict) { return Value(dict); }
  static Value Of(Object* object) { return Value(object); }

  Kind kind() const { return static_cast<Kind>(data_.index()); }
  bool Is(Kind wanted) const { return kind() == wanted; }
  // A bool counts as a number, as in Python.
  bool IsNumber() const { return Is(Kind::kInt) || Is(Kind::kFloat) || Is(Kind::kBool); }
  bool IsInteger() const { return Is(Kind::kInt) || Is(Kind::kBool); }

  // REQUIRES: the kind; as_int and as_float also take the other numbers.
  bool as_bool() const { return std::get<bool>(data_); }
  int64_t as_int() const;
  double as_float() const;
  const std::string& as_string() const;
  List& as_list() const { return *std::get<List*>(data_); }
  Dict& as_dict() const { return *std::get<Dict*>(data_); }
  Object& as_object() const { return *std::get<Object*>(data_); }
  // What messages call an undefined value; empty where it has no name.
  std::string about() const;

 private:
  struct UndefinedTag {
    std::shared_ptr<const StringData> about = {};
  };
  struct NoneTag {};
  using Data = std::variant<UndefinedTag, NoneTag, bool, int64_t, double,
                            std::shared_ptr<const StringData>, List*, Dict*, Object*>;
  explicit Value(Data data) : data_(std::move(data)) {}

  Data data_ = UndefinedTag{};
};

// Returns what a message calls the type of a value: "string", "list".
std::string TypeName(const Value& value);

// The arguments of a call.
struct Arguments {
  std::vector<Value> positional = {};
  std::vector<std::pair<std::string, Value>> named = {};
};

// What filters, tests and methods are: `input` is what they are applied to.
using Function = Value (*)(Runtime& runtime, const Value& input, const Arguments& arguments);

// What a Runtime owns.
class Cell {
 public:
  Cell() = default;
  virtual ~Cell() = default;
  Cell(const Cell&) = delete;
  Cell& operator=(const Cell&) = delete;
};

struct List : Cell {
  std::vector<Value> items = {};
  bool is_tuple = false;
  bool is_group = false;  // a pair of `groupby`, with attributes `grouper` and `list`
};

// A dict keeps the order in which keys came.
class Dict : public Cell {
 public:
  using Entry = std::pair<Value, Value>;
  const std::vector<Entry>& entries() const { return entries_; }
  size_t size() const { return entries_.size(); }

  // Returns null where there is no such key, or none that Python could hash.
  const Value* Find(const Value& key) const;
  const Value* Find(std::string_view key) const;
  // Throws Failure for a key that Python cannot hash.
  void Set(Budget& budget, const Value& key, Value value);
  void Erase(const Value& key);

 private:
  std::vector<Entry> entries_;
  std::unordered_map<std::string, size_t> index_;  // an encoded key -> its entry
};

// Whatever else has attributes or can be called: a namespace, a loop, a macro, a method.
class Object : public Cell {
 public:
  virtual std::string type_name() const { return "function"; }
  // Returns the undefined value where there is none.
  virtual Value Attribute(Runtime& runtime, const std::string& name);
  virtual bool callable() const { return false; }
  virtual Value Call(Runtime& runtime, const Arguments& arguments);
};

// {% set ns = namespace(found=false) %}: what `set ns.found = ...` may change.
class Namespace : public Object {
 public:
  std::string type_name() const override { return "namespace"; }
  Value Attribute(Runtime& runtime, const std::string& name) override;
  Dict attributes;
};

}  // namespace thermocline::jinja
