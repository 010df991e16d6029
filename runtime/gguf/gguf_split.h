// A model in several GGUF files: NAME-00001-of-00003.gguf and so on, each with the keys split.no
// (from 0), split.count and split.tensors.count. The first holds the model's metadata.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "runtime/gguf/gguf_parser.h"

namespace thermocline {

struct GgufSplitSet {
  std::string prefix;  // path up to the "-00001-of-00003.gguf"
  int n_files = 1;
  int member = 0;  // the member, from 0, that the path named

  std::string PathOf(int index) const;
};

// Returns the set that a file belongs to by its keys and its name; nullopt for a file of its own.
// Throws Error when the keys and the name do not agree.
std::optional<GgufSplitSet> FindSplitSet(const GgufContents& contents, const std::string& path);

// Returns all files of the set that `path` names a member of, by its name alone, `path` first.
std::vector<std::string> SplitFilesByName(const std::string& path);

// Throws Error when the file is not member `index` of a set of n_files.
void CheckSplitMember(const GgufContents& contents, const std::string& path, int index,
                      int n_files);

}  // namespace thermocline
