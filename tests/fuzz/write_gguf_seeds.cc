// Writes the corpus of broken GGUF files, and a few that are right, into a directory: one file
// each.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include "tests/gguf/bad_files.h"
#include "tests/gguf/gguf_bytes.h"

namespace {

bool Write(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream file(path, std::ios::binary);
  file << bytes;
  file.close();
  if (!file) std::fprintf(stderr, "%s: cannot write\n", path.c_str());
  return !file.fail();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s DIRECTORY\n", argv[0]);
    return 2;
  }
  const std::filesystem::path directory = argv[1];
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  bool ok = Write(directory / "valid_v2.gguf", thermocline::SmallValidGguf(2)) &&
            Write(directory / "valid_v3.gguf", thermocline::SmallValidGguf(3)) &&
            Write(directory / "valid_pwri.gguf",
                  thermocline::AsPowerInfer(thermocline::SmallValidGguf(3)));
  for (const thermocline::BadFile& file : thermocline::BadGgufFiles()) {
    ok = ok && Write(directory / ("bad_" + file.name + ".gguf"), file.bytes);
  }
  return ok ? 0 : 1;
}
