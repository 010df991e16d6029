// What the config of a model with an encoder has beside that of others.
#pragma once

#include "runtime/gguf/gguf_reader.h"
#include "runtime/model/model.h"

namespace thermocline {

// Both read keys of config->architecture, and throw Error with the key, what was expected and what
// was found.

// Sets the token that the decoder's text begins with. REQUIRES: vocab_size is read.
void ReadDecoderStart(const GgufReader& gguf, ModelConfig* config);
// Sets the buckets of the relative bias in all layers.
void ReadRelative(const GgufReader& gguf, ModelConfig* config);

}  // namespace thermocline
