// Python's operators on values. All throw Failure where Python raises an exception.
#pragma once

#include <vector>

#include "runtime/text/jinja/ast.h"
#include "runtime/text/jinja/runtime.h"

namespace thermocline::jinja {

bool IsTrue(const Value& value);
// Throws Failure for an undefined value, which says what is undefined.
void RequireDefined(const Value& value);

bool Equals(Runtime& runtime, const Value& left, const Value& right);
// Numbers with numbers, strings with strings, lists with lists.
bool IsLess(Runtime& runtime, const Value& left, const Value& right);
bool Contains(Runtime& runtime, const Value& container, const Value& item);
bool Compare(Runtime& runtime, Operator op, const Value& left, const Value& right);

Value Calculate(Runtime& runtime, Operator op, const Value& left, const Value& right);
Value Negate(const Value& value);
// "%d of %s" % values.
Value FormatPercent(Runtime& runtime, const std::string& format, const Value& values);

// Returns what a loop visits: items, keys of a dict, characters; nothing for an undefined value.
std::vector<Value> Iterate(Runtime& runtime, const Value& value);
// Returns the number of items, keys or characters.
int64_t Length(Runtime& runtime, const Value& value);

// value.name and value[key]: the undefined value where there is none.
Value GetAttribute(Runtime& runtime, const Value& value, const std::string& name);
Value GetItem(Runtime& runtime, const Value& value, const Value& key);
// value[start:stop:step]; none for what is left out.
Value Slice(Runtime& runtime, const Value& value, const Value& start, const Value& stop,
            const Value& step);

Value CallValue(Runtime& runtime, const Value& callee, const Arguments& arguments);

}  // namespace thermocline::jinja
