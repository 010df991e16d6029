// The models of tests/golden/families: a directory each, as Hugging Face transformers saves them,
// with what that computes.
#pragma once

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

namespace thermocline {

inline std::string FamiliesFolder() {
  return std::string(THERMOCLINE_SOURCE_DIR) + "/tests/golden/families/";
}

// Returns the names of the directories that hold a model and a golden.json.
inline std::vector<std::string> FamilyNames() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(FamiliesFolder())) {
    if (!std::filesystem::exists(entry.path() / "golden.json")) continue;
    if (!std::filesystem::exists(entry.path() / "config.json")) continue;
    names.push_back(entry.path().filename().string());
  }
  std::ranges::sort(names);
  return names;
}

}  // namespace thermocline
