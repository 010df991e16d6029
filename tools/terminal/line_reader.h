// Lines from the user: with editing and history on a terminal, plain ones otherwise.
#pragma once

#include <memory>
#include <string>

namespace thermocline {

enum class LineStatus { kLine, kEnd, kInterrupted };

class LineReader {
 public:
  virtual ~LineReader() = default;
  // Reads the next line without its end. kEnd: Ctrl-D or the end of the input; kInterrupted:
  // Ctrl-C.
  virtual LineStatus Read(std::string* line) = 0;
  // Puts a text into the next line, to be edited there. Returns false where lines cannot be edited.
  virtual bool Offer(const std::string& text) = 0;
};

// Reads from standard input. `prompt` is shown on a terminal only (on stderr, as all that is not
// the model's text).
std::unique_ptr<LineReader> MakeLineReader(const std::string& prompt);

}  // namespace thermocline
