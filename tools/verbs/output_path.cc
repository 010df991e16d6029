#include "tools/verbs/output_path.h"

#include <filesystem>

#include "runtime/core/atomic_file.h"
#include "runtime/core/error.h"
#include "runtime/gguf/gguf_split.h"
#include "runtime/load/model_predictor.h"

namespace thermocline {

std::vector<std::string> InputFiles(const EngineOptions& options) {
  std::vector<std::string> files = SplitFilesByName(options.model_path);
  if (!options.placement_path.empty()) files.push_back(options.placement_path);
  if (!options.draft_path.empty()) files.push_back(options.draft_path);
  if (options.predictor != kSignPredictor) files.push_back(options.predictor);
  return files;
}

void CheckNotRead(const std::string& path, const std::vector<std::string>& inputs) {
  if (!CanBeReadBack(path)) return;
  for (const std::string& input : inputs) {
    std::error_code ignored;
    const bool same = path == input || std::filesystem::equivalent(path, input, ignored);
    if (input.empty() || !same) continue;
    throw Error({.path = path,
                 .what = "this file is read, and cannot be written at the same time",
                 .hint = "choose another output file"});
  }
}

void CheckOutputPath(const std::string& path, const std::vector<std::string>& inputs) {
  CheckNotRead(path, inputs);
  const AtomicFile probe(path);  // a temporary file beside it, which goes away again
}

void CheckRereadOutputPath(const std::string& path, const std::vector<std::string>& inputs) {
  CheckOutputPath(path, inputs);
  if (CanBeReadBack(path)) return;
  throw Error({.path = path,
               .what =
                   "cannot write here: what is written is read again, and seeking is impossible "
                   "in what is no regular file",
               .hint = "choose the name of a regular file"});
}

}  // namespace thermocline
