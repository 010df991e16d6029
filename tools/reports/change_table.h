// Shows what became of each tensor as a table, for `quantize` and `pack`.
#pragma once

#include <string>
#include <vector>

#include "runtime/convert/model_writer.h"

namespace thermocline {

// Below the table it says which tensors could not get the type that was wanted.
std::string ChangeTable(const std::vector<TensorChange>& changes);

// Reads a mix or a type that can be written by its name. Another word is a usage error. `verb` is
// for the message.
TypeRule ParseTypeArgument(const std::string& verb, const std::string& name);

}  // namespace thermocline
