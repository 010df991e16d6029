// A text file as windows of tokens, read as a stream: the file is mapped and encoded a few MiB at a
// time, so memory use does not grow with the text. The bytes need not be valid UTF-8.
//
// A text larger than a chunk is cut behind a line's end; each chunk is encoded as a text of its own
// (one that starts with a space where the vocabulary wants that), which changes at most the token
// at the cut.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/core/mapped_file.h"
#include "runtime/core/progress.h"
#include "runtime/text/tokenizer.h"

namespace thermocline {

struct CorpusOptions {
  int64_t context_tokens = 0;  // of a window, with the BOS in front of it where the model wants one
  int64_t max_tokens = 0;      // of the text, without the BOS; 0: all of it
  uint64_t chunk_bytes = uint64_t{4} << 20;
  ProgressFn progress = {};  // told of the first reading
};

class Corpus {
 public:
  // Reads the text through once, to count. Throws Error for a file that is empty, cannot be read,
  // or has no tokens. `tokenizer` must outlive the corpus.
  Corpus(const std::string& path, const Tokenizer& tokenizer, const CorpusOptions& options);

  const std::string& path() const { return file_.path(); }
  int64_t n_tokens() const { return n_tokens_; }    // of the text, without the BOS of each window
  int64_t n_windows() const { return n_windows_; }  // the last one may be shorter
  int64_t window_text_tokens() const { return window_text_tokens_; }
  // Counts the tokens of the first n windows, with the BOS of each.
  int64_t TokensOfWindows(int64_t n) const;

  // Returns the next window, from the first one on. REQUIRES: n_windows() were not yet taken.
  std::vector<int32_t> NextWindow();

 private:
  std::string_view ChunkAt(uint64_t offset) const;
  bool LoadChunk();  // false at the end of the text

  MappedFile file_;
  const Tokenizer& tokenizer_;
  CorpusOptions options_;
  bool has_bos_;
  int64_t window_text_tokens_;
  int64_t n_tokens_ = 0;
  int64_t n_windows_ = 0;
  int64_t tokens_taken_ = 0;
  uint64_t next_offset_ = 0;  // where the chunk after the one in ids_ begins
  std::vector<int32_t> ids_;  // tokens of the chunk being handed out
  size_t next_id_ = 0;
};

}  // namespace thermocline
