#include "runtime/reply/tool_grammar.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "runtime/core/error.h"
#include "runtime/grammar/gbnf_text.h"
#include "runtime/grammar/json_rules.h"
#include "runtime/grammar/json_schema.h"

namespace thermocline {
namespace {

constexpr size_t kMaxTools = 512;
constexpr size_t kMaxToolName = 64;

[[noreturn]] void FailTools(const std::string& what, const std::string& expected,
                            const std::string& found = {}) {
  throw Error({.what = what, .expected = expected, .found = found});
}

bool IsToolName(const SchemaJson& name) {
  if (!name.is_string()) return false;
  const auto& text = name.get_ref<const std::string&>();
  return !text.empty() && text.size() <= kMaxToolName &&
         text.find_first_not_of(
             "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") ==
             std::string::npos;
}

class CallGrammar {
 public:
  CallGrammar(const ReplyFormat& format, const GrammarVocabulary& vocabulary)
      : format_(format), vocabulary_(vocabulary), rules_(writer_) {
    writer_.Reserve("root");
  }

  std::string Forced(const std::vector<Tool>& tools, bool parallel) {
    std::string calls = Calls(tools, parallel, true);
    if (format_.calls != CallFormat::kHarmony) calls = BehindThinking(calls);
    writer_.Define("root", calls);
    return writer_.text();
  }

  std::string Lazy(const std::vector<Tool>& tools, bool parallel) {
    if (format_.calls == CallFormat::kHarmony) {
      const std::string final_text = fmt::format(R"gbnf({} "final" {} {})gbnf", Mark("<|channel|>"),
                                                 Mark("<|message|>"), TextTo("<|end|>", "", true));
      writer_.Define("root", HarmonyCalls(tools, final_text));
      return writer_.text();
    }
    const std::string mark = CallMark();
    const std::string text = TextTo(mark, Calls(tools, parallel, false), true);
    // The reply may also end before its reasoning does.
    std::string root = text;
    if (format_.starts_thinking) root = TextTo(format_.think_close, text, true);
    if (format_.thinks() && !format_.starts_thinking) {
      root = fmt::format("{} {} | {}", Mark(format_.think_open),
                         TextTo(format_.think_close, text, true), text);
    }
    writer_.Define("root", root);
    return writer_.text();
  }

  std::string Json(const SchemaJson& schema) {
    const std::string json =
        schema.is_null() ? rules_.Object() : AddJsonSchema(schema, "#", rules_);
    if (format_.calls == CallFormat::kHarmony) {
      writer_.Define("root", fmt::format(R"gbnf({}{} "final" {} {})gbnf", Analysis(),
                                         Mark("<|channel|>"), Mark("<|message|>"), json));
    } else {
      writer_.Define("root", BehindThinking(json));
    }
    return writer_.text();
  }

 private:
  int32_t ControlToken(std::string_view name) const {
    const int32_t id = vocabulary_.Find(name);
    return id >= 0 && vocabulary_.bytes(id).empty() ? id : -1;
  }
  // A mark of the format: a control token where it is one, else its text.
  std::string Mark(std::string_view name) const {
    const int32_t id = ControlToken(name);
    return id >= 0 ? GbnfToken(id) : GbnfText(name);
  }

  // Text up to a mark and what comes behind it (empty: the mark may not come). may_end: the text
  // may also end without.
  std::string TextTo(std::string_view mark, const std::string& behind, bool may_end) {
    const int32_t id = ControlToken(mark);
    if (id >= 0) {
      const std::string end = behind.empty() ? "" : fmt::format("{} {}", GbnfToken(id), behind);
      const std::string tail = end.empty() ? "" : may_end ? fmt::format("({})?", end) : end;
      return writer_.Add("text", fmt::format("!{}* {}", GbnfToken(id), tail));
    }
    return PlainTextTo(mark, behind, may_end);
  }

  // The same for a mark that is written as text: a rule for each number of its characters that the
  // text ends with so far (Knuth, Morris and Pratt). Other control tokens are no part of a mark.
  std::string PlainTextTo(std::string_view mark, const std::string& behind, bool may_end) {
    std::vector<std::string> states;
    for (size_t i = 0; i < mark.size(); ++i) states.push_back(writer_.Reserve("text"));
    const auto next_state = [&](size_t n, char c) {
      const std::string seen = std::string(mark.substr(0, n)) + c;
      size_t k = std::min(seen.size(), mark.size());
      while (k > 0 && !seen.ends_with(mark.substr(0, k))) --k;
      return k;
    };
    for (size_t n = 0; n < mark.size(); ++n) {
      std::vector<CodepointRange> listed;
      std::string body = may_end ? "\"\"" : "";
      const auto add = [&body](const std::string& part) {
        if (!body.empty()) body += " | ";
        body += part;
      };
      for (const char c : mark) {
        const auto code = static_cast<unsigned char>(c);
        const bool known = std::any_of(listed.begin(), listed.end(),
                                       [code](const CodepointRange& r) { return r.first == code; });
        if (known) continue;
        listed.push_back({code, code});
        const size_t next = next_state(n, c);
        if (next == 0) {
          add(fmt::format("{} {}", GbnfText(std::string(1, c)), states[0]));
        } else if (next < mark.size()) {
          add(fmt::format("{} {}", GbnfText(std::string(1, c)), states[next]));
        } else if (!behind.empty()) {
          add(fmt::format("{} {}", GbnfText(std::string(1, c)), behind));
        }
      }
      add(fmt::format("{} {}", GbnfSet(ComplementOf(listed)), states[0]));
      for (const std::string& name : {format_.think_open, format_.think_close}) {
        if (const int32_t id = name.empty() ? -1 : ControlToken(name); id >= 0) {
          add(fmt::format("{} {}", GbnfToken(id), states[0]));
        }
      }
      writer_.Define(states[n], body);
    }
    return states[0];
  }

  std::string BehindThinking(const std::string& answer) {
    if (!format_.thinks()) return answer;
    const std::string behind =
        writer_.Add("answer", fmt::format("[ \\n\\r\\t]{{0,8}} ({})", answer));
    std::string thinking = TextTo(format_.think_close, behind, false);
    if (format_.starts_thinking) return thinking;
    return fmt::format("{} {} | {}", Mark(format_.think_open), thinking, answer);
  }

  std::string CallMark() const {
    switch (format_.calls) {
      case CallFormat::kHermes:
        return "<tool_call>";
      case CallFormat::kMistral:
      case CallFormat::kMistralArgs:
        return "[TOOL_CALLS]";
      default:
        return "<|python_tag|>";
    }
  }

  std::string Arguments(const Tool& tool) {
    const std::string where = fmt::format("the parameters of {}", tool.name);
    if (tool.parameters.is_null() || tool.parameters == SchemaJson::object())
      return rules_.Object();
    return AddJsonSchema(tool.parameters, where, rules_);
  }

  // {"name": "f", "arguments": {...}}
  std::string Object(const Tool& tool, const char* key, const std::string& more = {}) {
    const std::string space = rules_.Space();
    return writer_.Add(
        "call",
        fmt::format(R"gbnf("{{" {0} "\"name\"" {0} ":" {0} {1} {0} "," {0} {2} {0} ":" {0} )gbnf"
                    R"gbnf({3} {4}"}}")gbnf",
                    space, GbnfText("\"" + tool.name + "\""), GbnfText(fmt::format("\"{}\"", key)),
                    Arguments(tool), more));
  }
  std::string AnyObject(const std::vector<Tool>& tools, const char* key,
                        const std::string& more = {}) {
    std::string body;
    for (const Tool& tool : tools) {
      if (!body.empty()) body += " | ";
      body += Object(tool, key, more);
    }
    return writer_.Add("call", body);
  }

  // One call or several. with_mark: also the first one's mark.
  std::string Calls(const std::vector<Tool>& tools, bool parallel, bool with_mark) {
    const std::string space = rules_.Space();
    const std::string mark = Mark(CallMark());
    const std::string first = with_mark ? mark + " " : "";
    const std::string times = fmt::format("{{0,{}}}", parallel ? kMaxParallelCalls - 1 : 0);
    switch (format_.calls) {
      case CallFormat::kHermes: {
        const std::string call =
            writer_.Add("marked", fmt::format("{0} {1} {0} {2}", space,
                                              AnyObject(tools, "arguments"), Mark("</tool_call>")));
        return writer_.Add("calls",
                           fmt::format("{0}{1} ({2} {3} {1}){4}", first, call, space, mark, times));
      }
      case CallFormat::kMistral: {
        const std::string id = fmt::format(
            R"gbnf(("," {0} "\"id\"" {0} ":" {0} "\"" [a-zA-Z0-9]{{9}} "\"" {0})? )gbnf", space);
        const std::string call = AnyObject(tools, "arguments", id);
        return writer_.Add("calls",
                           fmt::format(R"gbnf({0}{1} "[" {1} {2} ({1} "," {1} {2}){3} {1} "]")gbnf",
                                       first, space, call, times));
      }
      case CallFormat::kMistralArgs: {
        std::string body;
        for (const Tool& tool : tools) {
          if (!body.empty()) body += " | ";
          body += fmt::format("{} {} {}", GbnfText(tool.name), Mark("[ARGS]"), Arguments(tool));
        }
        const std::string call = writer_.Add("call", body);
        return writer_.Add("calls", fmt::format("{0}{1} ({2} {1}){3}", first, call, mark, times));
      }
      case CallFormat::kLlama3: {
        const std::string call = AnyObject(tools, "parameters");
        return with_mark ? writer_.Add("calls", fmt::format("{}? {}", mark, call)) : call;
      }
      case CallFormat::kHarmony:
        return HarmonyCalls(tools, "");
      case CallFormat::kGeneric:
        break;
    }
    std::string call = AnyObject(tools, "arguments");
    if (!parallel) return call;
    return writer_.Add(
        "calls", fmt::format(R"gbnf({1} | "[" {0} {1} ({0} "," {0} {1}){2} {0} "]")gbnf", space,
                             call, times));
  }

  // Reasoning in a message of its own before the message that counts.
  std::string Analysis() {
    const std::string behind =
        writer_.Add("between", fmt::format(R"gbnf({} "assistant")gbnf", Mark("<|start|>")));
    return fmt::format(R"gbnf(({} "analysis" {} {})? )gbnf", Mark("<|channel|>"),
                       Mark("<|message|>"), TextTo("<|end|>", behind, false));
  }
  std::string HarmonyCalls(const std::vector<Tool>& tools, const std::string& otherwise) {
    std::string body = otherwise;
    for (const Tool& tool : tools) {
      if (!body.empty()) body += " | ";
      body += fmt::format(R"gbnf({} {} {} "json" {} {})gbnf", Mark("<|channel|>"),
                          GbnfText(fmt::format("commentary to=functions.{} ", tool.name)),
                          Mark("<|constrain|>"), Mark("<|message|>"), Arguments(tool));
    }
    return fmt::format("{}({})", Analysis(), body);
  }

  const ReplyFormat& format_;
  const GrammarVocabulary& vocabulary_;
  GbnfWriter writer_;
  JsonRules rules_;
};

}  // namespace

std::vector<Tool> ReadTools(const SchemaJson& tools) {
  std::vector<Tool> out;
  if (tools.is_null()) return out;
  if (!tools.is_array() || tools.size() > kMaxTools) {
    FailTools("tools", fmt::format("a list of at most {}", kMaxTools), ShortJson(tools));
  }
  for (size_t i = 0; i < tools.size(); ++i) {
    const std::string what = fmt::format("tool {}", i + 1);
    const SchemaJson& tool = tools[i];
    const bool is_function = tool.is_object() &&
                             tool.value("type", SchemaJson("function")) == "function" &&
                             tool.contains("function") && tool["function"].is_object();
    if (!is_function) {
      FailTools(what, R"({"type": "function", "function": {"name": ..., "parameters": ...}})",
                ShortJson(tool));
    }
    const SchemaJson& function = tool["function"];
    const SchemaJson name = function.value("name", SchemaJson());
    if (!IsToolName(name)) {
      FailTools(what, fmt::format("a name of 1 to {} letters, digits, _ . and -", kMaxToolName),
                ShortJson(name));
    }
    const SchemaJson parameters = function.value("parameters", SchemaJson());
    if (!parameters.is_null() && !parameters.is_object()) {
      FailTools(what, "parameters that are a JSON schema", ShortJson(parameters));
    }
    out.push_back({name, parameters.is_null() ? SchemaJson::object() : parameters});
  }
  return out;
}

ToolChoice ReadToolChoice(const SchemaJson& choice) {
  using Kind = ToolChoice::Kind;
  if (choice.is_null() || choice == "auto") return {};
  if (choice == "none") return {Kind::kNone};
  if (choice == "required" || choice == "any") return {Kind::kRequired};
  if (choice.is_object() && choice.value("type", SchemaJson()) == "function") {
    const SchemaJson function = choice.value("function", SchemaJson::object());
    const SchemaJson name =
        function.is_object() ? function.value("name", SchemaJson()) : SchemaJson();
    if (name.is_string()) return {Kind::kNamed, name.get<std::string>()};
  }
  FailTools("tool_choice",
            R"("none", "auto", "required" or {"type": "function", "function": {"name": ...}})",
            ShortJson(choice));
}

std::string ToolCallGbnf(const std::vector<Tool>& tools, const ToolChoice& choice, bool parallel,
                         const ReplyFormat& format, const GrammarVocabulary& vocabulary) {
  if (choice.kind == ToolChoice::Kind::kNone) return "";
  std::vector<Tool> chosen = tools;
  if (choice.kind == ToolChoice::Kind::kNamed) {
    std::erase_if(chosen, [&](const Tool& tool) { return tool.name != choice.name; });
    if (chosen.empty())
      FailTools("tool_choice", "the name of one of the tools", Printable(choice.name));
  }
  if (chosen.empty() && choice.kind == ToolChoice::Kind::kAuto) return "";
  if (chosen.empty()) FailTools("tool_choice", "tools to choose from", "none");
  CallGrammar grammar(format, vocabulary);
  if (choice.kind != ToolChoice::Kind::kAuto) return grammar.Forced(chosen, parallel);
  const bool announced =
      format.calls != CallFormat::kGeneric && format.calls != CallFormat::kLlama3;
  return announced ? grammar.Lazy(chosen, parallel) : "";
}

std::string JsonAnswerGbnf(const SchemaJson& schema, const ReplyFormat& format,
                           const GrammarVocabulary& vocabulary) {
  return CallGrammar(format, vocabulary).Json(schema);
}

}  // namespace thermocline
