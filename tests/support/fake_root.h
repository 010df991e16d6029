// A directory that stands for "/", with files of /proc and /sys as a test wants them.
#pragma once

#include <filesystem>
#include <string>

#include "tests/support/temp_dir.h"

namespace thermocline {

class FakeRoot {
 public:
  void Write(const std::string& name, const std::string& text) const {
    const std::filesystem::path path = dir_.file(name);
    std::filesystem::create_directories(path.parent_path());
    WriteWholeFile(path, text);
  }
  const std::string& root() const { return dir_.path(); }

 private:
  TempDir dir_;
};

}  // namespace thermocline
