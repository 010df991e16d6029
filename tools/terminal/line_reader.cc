#include "tools/terminal/line_reader.h"

#include <histedit.h>
#include <stdio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <clocale>
#include <cstdlib>
#include <cwchar>

#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"

namespace thermocline {
namespace {

class PlainLines : public LineReader {
 public:
  ~PlainLines() override { ::free(buffer_); }

  // Reads by POSIX getline, as the C++ one goes on reading when a signal comes.
  LineStatus Read(std::string* line) override {
    const ssize_t n = ::getline(&buffer_, &capacity_, stdin);
    if (InterruptRequested()) return LineStatus::kInterrupted;
    if (n < 0) return LineStatus::kEnd;
    line->assign(buffer_, static_cast<size_t>(n));
    if (!line->empty() && line->back() == '\n') line->pop_back();
    return LineStatus::kLine;
  }
  bool Offer(const std::string& /*text*/) override { return false; }

 private:
  char* buffer_ = nullptr;
  size_t capacity_ = 0;
};

// Chooses a UTF-8 locale: libedit takes wide characters of the locale, and without one typed text
// would be cut to ASCII.
void UseUtf8Locale() {
  std::setlocale(LC_CTYPE, "");
  if (MB_CUR_MAX == 1) std::setlocale(LC_CTYPE, "C.UTF-8");
}

// Reads one character. libedit's own function goes on after a signal; this one ends the line.
int ReadCharacter(EditLine* /*editor*/, wchar_t* out) {
  std::mbstate_t state{};
  while (true) {
    char byte = 0;
    const ssize_t n = ::read(STDIN_FILENO, &byte, 1);
    if (InterruptRequested()) return 0;
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return 0;
    const size_t length = std::mbrtowc(out, &byte, 1, &state);
    if (length == static_cast<size_t>(-2)) continue;  // more bytes of the character follow
    if (length != static_cast<size_t>(-1)) return 1;
    state = std::mbstate_t{};  // not a character: leave the byte out
  }
}

class EditedLines : public LineReader {
 public:
  explicit EditedLines(std::string prompt) : prompt_(std::move(prompt)) {
    UseUtf8Locale();
    // The prompt goes where stderr goes, so that redirected text stays clean.
    editor_ = el_init("thermocline", stdin, stderr, stderr);
    history_ = history_init();
    if (editor_ == nullptr || history_ == nullptr) {
      throw Error({.what = "cannot set up line editing on this terminal",
                   .hint = "feed the lines through a pipe instead"});
    }
    HistEvent event;
    history(history_, &event, H_SETSIZE, kHistoryLines);
    el_set(editor_, EL_CLIENTDATA, this);
    el_set(editor_, EL_PROMPT, &EditedLines::Prompt);
    el_set(editor_, EL_EDITOR, "emacs");
    el_set(editor_, EL_HIST, history, history_);
    el_set(editor_, EL_GETCFN, &ReadCharacter);
  }
  ~EditedLines() override {
    if (editor_ != nullptr) el_end(editor_);
    if (history_ != nullptr) history_end(history_);
  }
  EditedLines(const EditedLines&) = delete;
  EditedLines& operator=(const EditedLines&) = delete;

  LineStatus Read(std::string* line) override {
    // el_gets shows the prompt first and takes the terminal out of line mode after: a Ctrl-D typed
    // between the two would reach the editor as a NUL.
    el_set(editor_, EL_PREP_TERM, 1);
    if (!offered_.empty()) el_push(editor_, offered_.c_str());  // as if it were typed
    offered_.clear();
    int n_bytes = 0;
    const char* text = el_gets(editor_, &n_bytes);
    if (InterruptRequested() || text == nullptr || n_bytes <= 0) {
      ::fputs("\n", stderr);  // leave the prompt's line
      return InterruptRequested() ? LineStatus::kInterrupted : LineStatus::kEnd;
    }
    HistEvent event;
    if (n_bytes > 1) history(history_, &event, H_ENTER, text);
    line->assign(text, static_cast<size_t>(n_bytes));
    if (line->back() == '\n') line->pop_back();
    return LineStatus::kLine;
  }

  bool Offer(const std::string& text) override {
    offered_ = text;
    // Control characters would be keys: the end of a line, or a command of the editor.
    const auto is_control = [](char c) { return static_cast<unsigned char>(c) < 32 || c == 127; };
    std::replace_if(offered_.begin(), offered_.end(), is_control, ' ');
    return true;
  }

 private:
  static constexpr int kHistoryLines = 1000;

  static char* Prompt(EditLine* editor) {
    EditedLines* self = nullptr;
    el_get(editor, EL_CLIENTDATA, &self);
    return self->prompt_.data();
  }

  std::string prompt_;
  std::string offered_;  // what the next line begins as
  EditLine* editor_ = nullptr;
  History* history_ = nullptr;
};

}  // namespace

std::unique_ptr<LineReader> MakeLineReader(const std::string& prompt) {
  if (::isatty(STDIN_FILENO) == 1) return std::make_unique<EditedLines>(prompt);
  return std::make_unique<PlainLines>();
}

}  // namespace thermocline
