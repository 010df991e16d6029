#include <string_view>

#include "runtime/text/tokenizer.h"
#include "runtime/text/utf8.h"

namespace thermocline {

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool at_text_start)
    : tokenizer_(tokenizer), drop_space_(at_text_start && tokenizer.adds_space_prefix()) {}

std::string StreamDecoder::Push(int32_t id) {
  std::string bytes = tokenizer_.TokenBytes(id);
  if (drop_space_ && !bytes.empty()) {
    if (bytes[0] == ' ') bytes.erase(0, 1);
    drop_space_ = false;
  }
  pending_ += bytes;
  return Drain(false);
}

std::string StreamDecoder::Finish() { return Drain(true); }

std::string StreamDecoder::Drain(bool at_end) {
  std::string_view rest = pending_;
  size_t n_ready = rest.size();
  if (!at_end) {
    // Only a character's beginning can wait, and it is at most three bytes at the very end.
    n_ready = 0;
    while (!rest.empty()) {
      const Utf8Char first = FirstUtf8Char(rest);
      if (first.status == Utf8Status::kIncomplete) break;
      n_ready += first.n_bytes;
      rest.remove_prefix(first.n_bytes);
    }
  }
  std::string out = ReplaceInvalidUtf8(std::string_view(pending_).substr(0, n_ready));
  pending_.erase(0, n_ready);
  return out;
}

}  // namespace thermocline
