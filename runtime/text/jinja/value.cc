#include "runtime/text/jinja/value.h"

#include <fmt/format.h>

#include <cmath>
#include <optional>

namespace thermocline::jinja {
namespace {

// Returns the same text for keys that Python finds equal: 1, 1.0 and True are one key.
// Returns nothing for a value that cannot be a key.
std::optional<std::string> EncodeKey(const Value& key, int depth = 0) {
  switch (key.kind()) {
    case Kind::kString:
      return "s" + key.as_string();
    case Kind::kNone:
      return "n";
    case Kind::kBool:
    case Kind::kInt:
      return fmt::format("i{}", key.as_int());
    case Kind::kFloat: {
      const double number = key.as_float();
      const bool whole = std::floor(number) == number && std::fabs(number) < 9e15;
      return whole ? fmt::format("i{}", static_cast<int64_t>(number)) : fmt::format("f{}", number);
    }
    case Kind::kList:
      if (key.as_list().is_tuple && depth < 16) {
        std::string text = "(";
        for (const Value& item : key.as_list().items) {
          const std::optional<std::string> part = EncodeKey(item, depth + 1);
          if (!part.has_value()) return std::nullopt;
          text += fmt::format("{}:{}", part->size(), *part);
        }
        return text;
      }
      return std::nullopt;
    default:
      return std::nullopt;
  }
}

}  // namespace

Value Value::Undefined(std::string about) {
  return Value(UndefinedTag{std::make_shared<const StringData>(std::move(about), nullptr)});
}

Value Value::Constant(std::string text) {
  return Of(std::make_shared<const StringData>(std::move(text), nullptr));
}

int64_t Value::as_int() const {
  return Is(Kind::kBool) ? static_cast<int64_t>(as_bool()) : std::get<int64_t>(data_);
}

double Value::as_float() const {
  return Is(Kind::kFloat) ? std::get<double>(data_) : static_cast<double>(as_int());
}

const std::string& Value::as_string() const {
  return std::get<std::shared_ptr<const StringData>>(data_)->text;
}

std::string Value::about() const {
  const auto& tag = std::get<UndefinedTag>(data_);
  return tag.about == nullptr ? "" : tag.about->text;
}

std::string TypeName(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return value.about().empty() ? "an undefined value" : "undefined: " + value.about();
    case Kind::kNone:
      return "none";
    case Kind::kBool:
      return "boolean";
    case Kind::kInt:
      return "integer";
    case Kind::kFloat:
      return "float";
    case Kind::kString:
      return "string";
    case Kind::kList:
      return value.as_list().is_tuple ? "tuple" : "list";
    case Kind::kDict:
      return "dict";
    case Kind::kObject:
      return value.as_object().type_name();
  }
  return "";
}

const Value* Dict::Find(const Value& key) const {
  const std::optional<std::string> encoded = EncodeKey(key);
  const auto found = encoded.has_value() ? index_.find(*encoded) : index_.end();
  return found == index_.end() ? nullptr : &entries_[found->second].second;
}

const Value* Dict::Find(std::string_view key) const {
  std::string encoded = "s";
  encoded += key;
  const auto found = index_.find(encoded);
  return found == index_.end() ? nullptr : &entries_[found->second].second;
}

void Dict::Set(Budget& budget, const Value& key, Value value) {
  std::optional<std::string> encoded = EncodeKey(key);
  if (!encoded.has_value()) Fail("a value that cannot be a key of a dict", {}, TypeName(key));
  const auto found = index_.find(*encoded);
  if (found != index_.end()) {
    entries_[found->second].second = std::move(value);
    return;
  }
  budget.Take(sizeof(Entry) + 96 + encoded->size());
  index_.emplace(std::move(*encoded), entries_.size());
  entries_.emplace_back(key, std::move(value));
}

void Dict::Erase(const Value& key) {
  const std::optional<std::string> encoded = EncodeKey(key);
  const auto found = encoded.has_value() ? index_.find(*encoded) : index_.end();
  if (found == index_.end()) return;
  const size_t at = found->second;
  index_.erase(found);
  entries_.erase(entries_.begin() + static_cast<std::ptrdiff_t>(at));
  for (auto& [other, position] : index_) position -= position > at ? 1 : 0;
}

Value Object::Attribute(Runtime&, const std::string& name) {
  return Value::Undefined(fmt::format("'{}' has no attribute '{}'", type_name(), name));
}

Value Object::Call(Runtime&, const Arguments&) {
  Fail("a value that cannot be called", {}, type_name());
}

Value Namespace::Attribute(Runtime&, const std::string& name) {
  const Value* found = attributes.Find(name);
  return found != nullptr ? *found
                          : Value::Undefined(fmt::format("namespace has no attribute '{}'", name));
}

}  // namespace thermocline::jinja
