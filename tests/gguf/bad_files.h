// The corpus of broken GGUF files: each must give an Error whose message holds the text beside it.
// The tests read it, and the fuzzer's seeds are written from it.
#pragma once

#include <string>
#include <vector>

namespace thermocline {

struct BadFile {
  std::string name;  // made of letters, digits and '_'
  std::string bytes;
  std::string message_part;
};

std::vector<BadFile> BadGgufFiles();

}  // namespace thermocline
