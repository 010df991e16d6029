// What texts grammars of JSON schemas have, and which schemas are refused.
#include "runtime/grammar/json_schema.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/grammar/grammar_testing.h"
#include "tests/support/message_of.h"

namespace thermocline {
namespace {

std::shared_ptr<const CompiledGrammar> CompileSchema(const std::string& schema) {
  return Compile(JsonSchemaGbnf(SchemaJson::parse(schema)));
}

struct SchemaCase {
  const char* schema;
  std::vector<std::string> matches;
  std::vector<std::string> others;
};

void ExpectTexts(const std::vector<SchemaCase>& cases) {
  for (const SchemaCase& c : cases) {
    SCOPED_TRACE(c.schema);
    const auto grammar = CompileSchema(c.schema);
    for (const std::string& text : c.matches) EXPECT_TRUE(Matches(grammar, text)) << text;
    for (const std::string& text : c.others) EXPECT_FALSE(Matches(grammar, text)) << text;
  }
}

TEST(JsonSchemaTest, Scalars) {
  ExpectTexts({
      {R"({"type": "string"})",
       {R"("")", R"("a\n\u00e9é")", R"("\ud83d\ude00")"},
       {"a", R"("a)", "\"\n\"", R"("\ud83d")", R"("\ude00")", R"("\x")"}},
      {R"({"type": "integer"})", {"0", "-12", "1234567890123456"}, {"01", "1.0", "", "+1"}},
      {R"({"type": "number"})", {"0", "-1.5", "2e10", "1.25E-3"}, {".5", "1.", "1e999", "00"}},
      {R"({"type": "boolean"})", {"true", "false "}, {"True", "null"}},
      {R"({"type": ["string", "null"]})", {"null", "\"x\""}, {"1"}},
      {R"({"const": {"a": [1, "x"]}})", {R"({"a":[1,"x"]})"}, {R"({"a":[1]})"}},
      {R"({"enum": ["a", 1, null, true]})", {"\"a\"", "1", "null", "true"}, {"\"b\"", "false"}},
      {R"({"type": "string", "enum": ["a", 1]})", {"\"a\""}, {"1"}},
      {R"({"enum": [1, 5, 9], "minimum": 2, "exclusiveMaximum": 9})", {"5"}, {"1", "9"}},
      {R"({"type": "string", "minLength": 2, "maxLength": 3})",
       {R"("ab")", R"("äöü")", R"("\n\ud83d\ude00")"},
       {R"("a")", R"("abcd")", R"("\n")"}},
      {R"({})", {"1", "[]", R"({"a": [true, {"b": null}]})"}, {"", "x"}},
      {R"(true)", {"1"}, {}},
  });
}

TEST(JsonSchemaTest, NumbersWithinBounds) {
  ExpectTexts({
      {R"({"type": "integer", "minimum": 0})",
       {"0", "10", "9999999999999999"},
       {"-1", "-0", "00", "01", "10000000000000000"}},
      {R"({"type": "integer", "minimum": -123, "maximum": 42})",
       {"-123", "-1", "0", "9", "42"},
       {"-124", "43", "-200", "100", "-1234", "050"}},
      {R"({"type": "integer", "exclusiveMinimum": 0, "maximum": 900719925474091})",
       {"1", "900719925474090", "900719925474091"},
       {"0", "900719925474092", "9007199254740910"}},
      {R"({"type": "integer", "minimum": 1.5, "maximum": 3.5})", {"2", "3"}, {"1", "4"}},
      {R"({"type": "integer", "maximum": -9999})", {"-10000", "-9999"}, {"-9998", "0"}},
      {R"({"type": "number", "minimum": 0.5, "exclusiveMaximum": 10.25})",
       {"0.5", "0.50", "1", "9.99", "10", "10.2", "10.24999"},
       {"0.4", "0.49999", "10.25", "10.250", "10.3", "11", "-1", "0", "1e1"}},
      {R"({"type": "number", "exclusiveMinimum": 0, "maximum": 1})",
       {"0.001", "1", "1.000", "0.9"},
       {"0", "0.000", "1.001", "2", "-1"}},
      {R"({"type": "number", "minimum": -2.5, "maximum": -1})",
       {"-1", "-2.5", "-2", "-1.0"},
       {"-0.9", "-2.51", "-3", "1", "0"}},
      {R"({"type": "number", "minimum": 1e-7, "maximum": 2e3})",
       {"0.0000001", "2000", "1999.9"},
       {"0.00000009", "2000.1", "0"}},
      {R"({"minimum": 3, "exclusiveMinimum": 3, "maximum": 4, "type": "integer"})", {"4"}, {"3"}},
  });
}

TEST(JsonSchemaTest, ObjectsAndArrays) {
  ExpectTexts({
      {R"({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "null"}},
           "required": ["a", "b"], "additionalProperties": false})",
       {R"({"a": 1, "b": null})", R"({"a":1,"b":null})"},
       {R"({"b":null,"a":1})", R"({"a":1})", R"({})", R"({"a":1,"b":null,"c":1})"}},
      {R"({"properties": {"a": {"type": "integer"}, "b": {"type": "null"}, "c": {"const": 1}},
           "required": ["b"]})",
       {R"({"b":null})", R"({"a":1,"b":null})", R"({"b":null,"c":1})", R"({"a":1,"b":null,"c":1})"},
       {R"({})", R"({"a":1})", R"({"a":1,"c":1})", R"({,"b":null})"}},
      {R"({"type": "object", "properties": {"a": {}}})", {"{}", R"({"a":[]})"}, {R"({"b":1})"}},
      {R"({"type": "object", "properties": {"ab": {"const": 1}, "ac": {"const": 2}},
           "additionalProperties": {"type": "boolean"}})",
       {R"({})", R"({"ab":1,"x":true})", R"({"x":true,"y":false})", R"({"a":true,"abc":true})",
        R"({"ac":2,"":true})", R"({"b\u0061":true})"},
       {R"({"ab":true})", R"({"x":true,"ab":true})", R"({"\u0061b":true})", R"({"x":1})",
        R"({"x":true,"ab":1})"}},
      {R"({"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 1,
           "maxProperties": 2})",
       {R"({"a":1})", R"({"a":1,"b":2})"},
       {"{}", R"({"a":1,"b":2,"c":3})"}},
      {R"({"type": "object", "required": ["x"]})", {R"({"x":[1]})"}, {"{}"}},
      {R"({"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 3})",
       {"[1]", "[1,2, 3]"},
       {"[]", "[1,2,3,4]", "[true]", "[1,]"}},
      {R"({"type": "array", "prefixItems": [{"const": 1}, {"const": 2}]})",
       {"[1,2]"},
       {"[1]", "[1,2,3]"}},
      {R"({"prefixItems": [{"const": 1}], "items": {"const": 2}, "maxItems": 3})",
       {"[1]", "[1,2,2]"},
       {"[2]", "[1,2,2,2]"}},
      {R"({"items": [{"type": "integer"}]})", {"[ -3000 ]"}, {"[]", "[true]"}},
      {R"({"type": "array", "items": false})", {"[]"}, {"[1]"}},
      {R"({"type": "object", "properties": {"a": false, "b": {"const": 1}}})",
       {R"({"b":1})"},
       {R"({"a":1})"}},
  });
}

TEST(JsonSchemaTest, ReferencesAndCombinations) {
  ExpectTexts({
      {R"({"$defs": {"node": {"type": "object", "properties": {"v": {"type": "integer"},
           "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
           "required": ["v", "next"], "additionalProperties": false}}, "$ref": "#/$defs/node"})",
       {R"({"v":1,"next":null})", R"({"v":1,"next":{"v":2,"next":null}})"},
       {R"({"v":1,"next":{}})"}},
      {R"({"type": "object", "properties": {"kids": {"type": "array", "items": {"$ref": "#"}}}})",
       {R"({})", R"({"kids":[{"kids":[]},{}]})"},
       {R"({"kids":[1]})"}},
      {R"({"anyOf": [{"type": "integer"}, {"type": "string", "maxLength": 1}]})",
       {"1", "\"a\""},
       {"\"ab\"", "true"}},
      {R"({"allOf": [{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
           {"properties": {"b": {"const": 1}}, "required": ["b"]}]})",
       {R"({"a":5,"b":1})"},
       {R"({"a":5})", R"({"b":1})"}},
      {R"({"allOf": [{"minimum": 3}, {"type": "integer", "maximum": 5}]})", {"3", "5"}, {"2", "6"}},
      {R"({"type": "object", "properties": {"a": {"const": 1}, "b": {"const": 2}},
           "anyOf": [{"required": ["a"]}, {"required": ["b"]}]})",
       {R"({"a":1})", R"({"b":2})", R"({"a":1,"b":2})"},
       {"{}"}},
      {R"({"oneOf": [{"properties": {"k": {"const": "x"}, "n": {"type": "integer"}},
           "required": ["k", "n"]}, {"properties": {"k": {"const": "y"}}, "required": ["k"]}]})",
       {R"({"k":"x","n":1})", R"({"k":"y"})"},
       {R"({"k":"x"})", R"({"k":"z"})"}},
      {R"({"$defs": {"p": {"type": "integer"}}, "properties": {"a": {"$ref": "#/$defs/p",
           "maximum": 3, "description": "d"}}, "required": ["a"]})",
       {R"({"a":3})"},
       {R"({"a":4})"}},
      {R"({"allOf": [{"properties": {"a": {}}, "additionalProperties": false},
           {"properties": {"b": {}}}]})",
       {R"({"a":1})", "{}"},
       {R"({"b":1})"}},
  });
}

TEST(JsonSchemaTest, PatternsAndFormats) {
  ExpectTexts({
      {R"({"type": "string", "pattern": "^[a-c]{2,3}(x|yz)?$"})",
       {R"("ab")", R"("abcyz")"},
       {R"("a")", R"("abcd")", R"("abxx")"}},
      {R"({"type": "string", "pattern": "b+"})", {R"("abba")", R"("b")"}, {R"("ac")"}},
      {R"({"type": "string", "pattern": "^\\d{3}-\\w+\\.[^\\s\"]*?$|^$"})",
       {R"("123-a_B.é")", R"("")", R"("123-a.\\")"},
       {R"("12-a.")", R"("123-a. ")", R"("123-a.\"")"}},
      {R"({"type": "string", "pattern": "^(?:a|(?<n>b))\\u0041\\x42\\n$"})",
       {R"("aAB\n")"},
       {"\"aAB\n\"", R"("cAB\n")"}},
      {R"({"format": "date"})",
       {R"("2024-02-29")", R"("2023-12-31")", R"("2000-02-29")"},
       {R"("2023-02-29")", R"("2100-02-29")", R"("2023-04-31")", R"("2023-13-01")"}},
      {R"({"format": "date-time"})",
       {R"("2024-01-01T00:00:00Z")", R"("2024-01-01T23:59:59.123+02:00")"},
       {R"("2024-01-01")", R"("2024-01-01T24:00:00Z")"}},
      {R"({"format": "time"})", {R"("12:30:00Z")"}, {R"("12:30")"}},
      {R"({"format": "uuid"})", {R"("123e4567-e89b-12d3-a456-426614174000")"}, {R"("123e4567")"}},
      {R"({"format": "email"})", {R"("a.b@c.de")"}, {R"("a@b")", R"("@c.de")"}},
      {R"({"format": "ipv4"})", {R"("192.168.0.255")"}, {R"("256.1.1.1")", R"("1.2.3")"}},
      {R"({"format": "uri"})", {R"("https://a.b/c?d=e#f")"}, {R"("a b")"}},
      {R"({"format": "duration"})", {R"("P1Y2M")", R"("PT5S")", R"("P3W")"}, {R"("P")", R"("PT")"}},
  });
}

TEST(JsonSchemaTest, WhatCannotBeKeptIsNamed) {
  const std::vector<std::pair<const char*, const char*>> cases = {
      {R"(123)", "at #"},
      {R"({"type": 123})", "\"type\" at #"},
      {R"({"type": "hiccup"})", "\"type\" at #"},
      {R"({"properties": {"a": {"not": {}}}})", "\"not\" at #/properties/a"},
      {R"({"items": {"uniqueItems": true}})", "\"uniqueItems\" at #/items"},
      {R"({"type": "integer", "multipleOf": 3})", "\"multipleOf\" at #"},
      {R"({"patternProperties": {"^a": {}}})", "\"patternProperties\""},
      {R"({"if": {}})", "\"if\""},
      {R"({"$ref": "#/$defs/x"})", "\"$ref\" at #"},
      {R"({"$ref": "https://example.com/x"})", "\"$ref\""},
      {R"({"$ref": "#"})", "\"$ref\""},
      {R"({"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {}]}}, "$ref": "#/$defs/a"})",
       "\"$ref\""},
      {R"({"oneOf": [{"type": "integer"}, {"type": "number"}]})", "\"oneOf\" at #"},
      {R"({"anyOf": []})", "\"anyOf\""},
      {R"({"type": "string", "pattern": "(?=a)b"})", "\"pattern\""},
      {R"({"type": "string", "pattern": "(a"})", "\"pattern\""},
      {R"({"type": "string", "pattern": "a**"})", "\"pattern\""},
      {R"({"type": "string", "pattern": "\\bx"})", "\"pattern\""},
      {R"({"type": "string", "pattern": "^a$", "maxLength": 3})", "\"pattern\""},
      {R"({"type": "string", "format": "color"})", "\"format\""},
      {R"({"type": "string", "minLength": -1})", "\"minLength\""},
      {R"({"type": "string", "maxLength": 1e12})", "\"maxLength\""},
      {R"({"minimum": "x"})", "\"minimum\""},
      {R"({"properties": []})", "\"properties\""},
      {R"({"required": [1]})", "\"required\""},
      {R"({"type": "object", "minProperties": 2})", "\"minProperties\""},
      {R"({"allOf": [{"pattern": "a"}, {"pattern": "b"}]})", "\"pattern\""},
  };
  for (const auto& [schema, message] : cases) {
    const SchemaJson parsed = SchemaJson::parse(schema);
    EXPECT_THAT(MessageOf([&] { JsonSchemaGbnf(parsed); }), testing::HasSubstr(message)) << schema;
  }
  // What nothing fits is no schema that a text can be made for.
  for (const char* schema : {R"(false)", R"({"type": "integer", "minimum": 5, "maximum": 3})",
                             R"({"allOf": [{"type": "string"}, {"type": "null"}]})",
                             R"({"required": ["a"], "properties": {"a": false}})"}) {
    EXPECT_THAT(MessageOf([&] { CompileSchema(schema); }), testing::HasSubstr("no text that ends"))
        << schema;
  }
}

TEST(JsonSchemaTest, DeepSchemasAreBounded) {
  SchemaJson schema = {{"type", "integer"}};
  for (int i = 0; i < 200; ++i) schema = {{"items", schema}};
  EXPECT_THAT(MessageOf([&] { JsonSchemaGbnf(schema); }), testing::HasSubstr("nested at most"));
}

TEST(JsonSchemaTest, ManyOptionalPropertiesStaySmall) {
  SchemaJson schema = {{"type", "object"}, {"properties", SchemaJson::object()}};
  for (int i = 0; i < 100; ++i) {
    schema["properties"]["property_" + std::to_string(i)] = {{"type", "string"}};
  }
  const auto grammar = Compile(JsonSchemaGbnf(schema));
  EXPECT_LT(grammar->automaton().n_states(), 30'000U);
  EXPECT_TRUE(Matches(grammar, R"({"property_7": "a", "property_42": "b", "property_99":"c"})"));
  EXPECT_FALSE(Matches(grammar, R"({"property_42": "a", "property_7": "b"})"));
}

}  // namespace
}  // namespace thermocline
