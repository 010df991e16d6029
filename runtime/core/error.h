// How things go wrong. A user's mistake (a file, a setting, memory, a device) throws one `Error`
// whose message is one line and says which file, what was expected, what was found and what to do
// about it. A broken invariant of ours is not a user's mistake: CHECK aborts.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include "runtime/core/setting.h"

namespace thermocline {

struct ErrorInfo {
  std::string path = {};      // the file concerned, or empty
  std::string what = {};      // what is wrong, in a few words
  std::string expected = {};  // empty when there is nothing to compare
  std::string found = {};
  std::string hint = {};  // what the user can do
  // What the text is about, in the order in which it speaks of it. The text itself names no flag
  // and no command.
  std::vector<SettingUse> settings = {};
  std::vector<Job> jobs = {};
};

// what(): "PATH: WHAT: expected E, found F; HINT", always one line, control characters escaped.
class Error : public std::runtime_error {
 public:
  explicit Error(const ErrorInfo& info);
  const ErrorInfo& info() const { return info_; }

 private:
  ErrorInfo info_;
};

// What a user should know and what is no error.
struct Note {
  std::string text = {};
  // As in ErrorInfo.
  std::vector<SettingUse> settings = {};
  std::vector<Job> jobs = {};
};

// Thrown by long work when the user asked to stop (Ctrl-C, SIGTERM): see runtime/core/interrupt.h.
class Interrupted : public std::runtime_error {
 public:
  Interrupted() : std::runtime_error("interrupted") {}
};

// Replaces control characters and invalid bytes of a text that came from a file, so that it can be
// printed inside an error message; cuts it at `max_bytes`.
std::string Printable(const std::string& text, size_t max_bytes = 80);

[[noreturn]] void CheckFailed(const char* file, int line, const char* condition);

}  // namespace thermocline

#define CHECK(condition)                                          \
  do {                                                            \
    if (!(condition)) [[unlikely]]                                \
      ::thermocline::CheckFailed(__FILE__, __LINE__, #condition); \
  } while (false)

#ifdef NDEBUG
#define DCHECK(condition) \
  do {                    \
  } while (false && (condition))
#else
#define DCHECK(condition) CHECK(condition)
#endif
