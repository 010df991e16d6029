// A template as a tree.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runtime/text/jinja/value.h"

namespace thermocline::jinja {

enum class ExpressionKind : uint8_t {
  kConstant,     // value
  kName,         // name
  kBlockText,    // what the block of a filter block or of a set block wrote
  kList,         // operands
  kTuple,        // operands
  kDict,         // operands: key, value, key, value
  kNot,          // operands[0]
  kNegative,     // operands[0]
  kPositive,     // operands[0]
  kAnd,          // operands[0], operands[1]
  kOr,           // operands[0], operands[1]
  kArithmetic,   // operands[0] operators[0] operands[1]
  kConcat,       // operands, joined as text
  kCompare,      // operands[0] operators[0] operands[1] operators[1] operands[2] ...
  kConditional,  // operands[0] if operands[1] else operands[2], which may be null
  kFilter,       // operands[0] | name(arguments)
  kTest,         // operands[0] is name(arguments)
  kCall,         // operands[0](arguments)
  kAttribute,    // operands[0].name
  kSubscript,    // operands[0][operands[1]]
  kSlice,        // operands[0][operands[1]:operands[2]:operands[3]], any of the last three null
};

enum class Operator : uint8_t {
  kAdd,
  kSubtract,
  kMultiply,
  kDivide,
  kFloorDivide,
  kModulo,
  kPower,
  kEqual,
  kNotEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kIn,
  kNotIn,
};

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

enum class Spread : uint8_t { kNone, kList, kDict };  // value, *value, **value

struct Argument {
  std::string name = {};  // empty for a positional one
  Spread spread = Spread::kNone;
  ExpressionPtr value = {};
};

struct Expression {
  ExpressionKind kind = ExpressionKind::kConstant;
  int line = 0;
  int depth = 1;  // levels of the tree from here down
  Value value = {};
  std::string name = {};
  std::vector<Operator> operators = {};
  std::vector<ExpressionPtr> operands = {};
  std::vector<Argument> arguments = {};
};

enum class StatementKind : uint8_t {
  kText,         // text
  kPrint,        // value
  kIf,           // branches
  kFor,          // target, value, condition, body, else_body
  kSet,          // target, value
  kSetBlock,     // target, body; value: the block's text through filters
  kWith,         // assignments, body
  kMacro,        // text: the name; parameters, body
  kCallBlock,    // value: the call; parameters, body
  kFilterBlock,  // value: the block's text through filters; body
  kBreak,
  kContinue,
};

struct Branch;
struct Statement;
using Body = std::vector<Statement>;

struct Parameter {
  std::string name = {};
  ExpressionPtr default_value = {};  // or null
};

struct Statement {
  StatementKind kind = StatementKind::kText;
  int line = 0;
  std::string text = {};
  ExpressionPtr target = {};
  ExpressionPtr value = {};
  ExpressionPtr condition = {};
  std::vector<std::pair<ExpressionPtr, ExpressionPtr>> assignments = {};
  std::vector<Parameter> parameters = {};
  bool takes_varargs = false;  // whether a macro's body speaks of `varargs`
  bool takes_kwargs = false;
  std::vector<Branch> branches;
  Body body = {};
  Body else_body = {};
};

struct Branch {
  ExpressionPtr condition = {};  // null for `else`
  Body body = {};
};

}  // namespace thermocline::jinja
