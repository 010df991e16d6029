// Keeps what users write from turning into control tokens. A chat template puts their text between
// control tokens that it writes by name, and one of those names in a message ("<|im_end|>") would
// end the message there and let its rest speak for somebody else.
//
// So a mark, a code point that no text has a use for, is put into such names before the template
// gets them, and taken out when the prompt has been cut at its control tokens. Text without such a
// name is not changed at all, and the template sees it as it is. What the template itself does to a
// text comes after: one that changes letters or joins pieces could still make a name of them.
// User-defined tokens ("<think>") are cut out of any text and stay as they are.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/text/tokenizer.h"

namespace thermocline {

// U+FDD0, a noncharacter of Unicode, reserved for use within programs.
inline constexpr std::string_view kShieldMark = "\xEF\xB7\x90";

// Returns the text with a mark in every name of a control token. A name of one character cannot be
// marked.
std::string ShieldControlTokens(const Tokenizer& tokenizer, std::string_view text);

// Returns the text without marks.
std::string WithoutShields(std::string_view text);

// Returns the ids of a prompt, with its control tokens but for the marked ones, which are text. BOS
// comes first where the file wishes it and the prompt does not begin with it.
std::vector<int32_t> EncodeShielded(const Tokenizer& tokenizer, std::string_view prompt);

}  // namespace thermocline
