// Writes an adapter as a GGUF, as llama.cpp's convert_lora_to_gguf.py does: factors in f32, B's
// rows in the order of the model's GGUF.
#pragma once

#include <string>

#include "runtime/lora/lora_file.h"

namespace thermocline {

// The user's scale that the file was opened with becomes part of the adapter's alpha. Throws Error
// for an adapter whose matrices differ in alpha, which a GGUF has no key for. config, family: of
// the model that the file was checked against.
void WriteLora(const LoraFile& file, const ModelConfig& config, const Family& family,
               const std::string& output);

}  // namespace thermocline
