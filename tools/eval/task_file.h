// Tasks for `eval`: files of JSON lines as ARC, PIQA, HellaSwag and LAMBADA are given out, and a
// general form. The wording of prompts is that of EleutherAI's lm-evaluation-harness.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace thermocline {

// A line: a text, and continuations of which one is right. One continuation alone is to be
// foretold.
struct EvalItem {
  std::string context;
  std::vector<std::string> choices;  // with the space before them, where there is one
  size_t answer = 0;
};

inline constexpr int64_t kMaxEvalItems = 1000000;
inline constexpr size_t kMaxEvalChoices = 64;

// Makes an item of one line:
//   ARC        {"question": Q, "choices": {"text": [..], "label": [..]}, "answerKey": L}
//   PIQA       {"goal": Q, "sol1": A, "sol2": B, "label": 0 or 1}
//   HellaSwag  {"ctx": C (or ctx_a, ctx_b), "activity_label": A, "endings": [..], "label": I}
//   LAMBADA    {"text": T}: its last word is to be foretold
//   general    {"context": C, "choices": [..], "answer": I}
// Throws Error with path and line for what is none of these.
EvalItem ParseEvalItem(std::string_view text, const std::string& path, int64_t line_number);

// Reads a file's lines, of at most 1 MiB each; empty ones are passed over. max_items: 0 for all.
std::vector<EvalItem> ReadEvalItems(const std::string& path, int64_t max_items);

}  // namespace thermocline
