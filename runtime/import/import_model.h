// Makes a GGUF of a Hugging Face model: a directory with config.json, safetensors and the files of
// a tokenizer.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "runtime/convert/model_writer.h"
#include "runtime/convert/type_mix.h"
#include "runtime/core/error.h"
#include "runtime/core/progress.h"

namespace thermocline {

struct ImportOptions {
  std::optional<TypeRule> rule = {};  // absent: every matrix keeps its type
  std::string name = {};              // general.name; "": the directory's
  std::string pretokenizer = {};      // a name that counts instead of what is recognised
  int n_threads = 1;
  ProgressFn progress = {};
};

struct ImportReport {
  std::string architecture;
  std::string vocabulary;             // "" for none; "llama, 32000 tokens"
  std::vector<TensorChange> changes;  // a line per tensor
  std::vector<Note> notes;
};

// Writes `output` as one file, which appears only when it is complete. It holds a piece of one
// tensor in memory, or the whole of one that is transposed. Throws Error for a model that is not
// known, and for whatever of it cannot be put into a GGUF as it is.
ImportReport ImportModel(const std::string& directory, const std::string& output,
                         const ImportOptions& options);

// Reads all of it but the weights, and returns what ImportModel() would write, without errors of
// rounding.
ImportReport PlanImport(const std::string& directory, const ImportOptions& options);

}  // namespace thermocline
