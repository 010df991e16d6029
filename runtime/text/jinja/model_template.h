// The chat template that a model file brings.
#pragma once

#include <string>

namespace thermocline {

class GgufReader;

struct ModelTemplate {
  std::string source;     // tokenizer.chat_template; empty where the file has none
  std::string bos_token;  // the texts of these tokens; empty where the file names none
  std::string eos_token;
};

// Throws Error where a token's id lies outside of the vocabulary.
ModelTemplate ReadModelTemplate(const GgufReader& gguf);

}  // namespace thermocline
