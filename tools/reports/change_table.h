// Shows what became of each tensor as a table, for `quantize` and `pack`.
#pragma once

#include <string>
#include <vector>

#include "runtime/convert/model_writer.h"
#include "runtime/core/dtype.h"

namespace thermocline {

std::string ChangeTable(const std::vector<TensorChange>& changes);

// Reads a type of weights by its name. Another word is a usage error. `verb` is for the message.
DType ParseTypeArgument(const std::string& verb, const std::string& name);

}  // namespace thermocline
