// Writes the templates and the snippets of tests/golden/chat_templates into a directory, one file
// each.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: %s GOLDENS DIRECTORY\n", argv[0]);
    return 2;
  }
  namespace fs = std::filesystem;
  const fs::path goldens = argv[1];
  const fs::path directory = argv[2];
  std::error_code error;
  fs::create_directories(directory, error);
  for (const auto& entry : fs::directory_iterator(goldens / "templates", error)) {
    fs::copy_file(entry.path(), directory / entry.path().filename(), error);
  }
  std::ifstream file(goldens / "snippets.json", std::ios::binary);
  const auto snippets = nlohmann::json::parse(file, nullptr, false);
  if (error || snippets.is_discarded()) {
    std::fprintf(stderr, "%s: cannot be read\n", argv[1]);
    return 1;
  }
  size_t number = 0;
  bool ok = true;
  for (const std::string source : snippets["templates"]) {
    std::ofstream seed(directory / ("snippet_" + std::to_string(number++)), std::ios::binary);
    seed << source;
    seed.close();
    ok = ok && !seed.fail();
  }
  return ok ? 0 : 1;
}
