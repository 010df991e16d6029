#include "runtime/gguf/own_files.h"

#include <utility>

#include "runtime/core/error.h"

namespace thermocline {

void RequireFileType(const GgufReader& gguf, const std::string& type, const std::string& kind,
                     std::vector<Job> makers) {
  const std::string found = gguf.RequireString("general.architecture");
  if (found == type) return;
  throw Error({.path = gguf.path(),
               .what = "not a " + kind + " file",
               .expected = "general.architecture " + type,
               .found = Printable(found),
               .hint = "make one for the model",
               .jobs = std::move(makers)});
}

void RequireDType(const GgufReader& gguf, const std::string& name, const TensorView& view,
                  DType wanted) {
  if (view.dtype == wanted) return;
  throw Error({.path = gguf.path(),
               .what = "tensor " + name,
               .expected = "type " + std::string(DTypeName(wanted)),
               .found = std::string(DTypeName(view.dtype))});
}

}  // namespace thermocline
