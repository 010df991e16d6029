#include "profiler/activations/corpus.h"

#include <fmt/format.h>

#include <algorithm>

#include "runtime/core/checked_math.h"
#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"

namespace thermocline {
namespace {

bool IsUtf8Continuation(char c) { return (static_cast<unsigned char>(c) & 0xC0U) == 0x80U; }

}  // namespace

Corpus::Corpus(const std::string& path, const Tokenizer& tokenizer, const CorpusOptions& options)
    : file_(path),
      tokenizer_(tokenizer),
      options_(options),
      has_bos_(tokenizer.add_bos() && tokenizer.bos_id() >= 0),
      window_text_tokens_(options.context_tokens - (has_bos_ ? 1 : 0)) {
  if (window_text_tokens_ < 1) {
    throw Error({.what = "a window holds no text",
                 .expected = "a context of 2 tokens or more",
                 .found = std::to_string(options.context_tokens),
                 .settings = {{Setting::kContextSize}}});
  }
  const auto is_done = [&] { return options.max_tokens > 0 && n_tokens_ >= options.max_tokens; };
  while (!is_done() && LoadChunk()) {
    n_tokens_ += static_cast<int64_t>(ids_.size());
    Report(options.progress, "reading " + path, next_offset_, file_.size());
  }
  if (is_done()) n_tokens_ = options.max_tokens;
  if (n_tokens_ == 0) throw Error({.path = path, .what = "the text has no tokens"});
  n_windows_ = CeilDiv(n_tokens_, window_text_tokens_);
  // A text of one chunk need not be encoded again.
  if (ChunkAt(0).size() == file_.size()) return;
  next_offset_ = 0;
  ids_.clear();
}

std::string_view Corpus::ChunkAt(uint64_t offset) const {
  const std::string_view rest(reinterpret_cast<const char*>(file_.data()) + offset,
                              file_.size() - offset);
  if (rest.size() <= options_.chunk_bytes) return rest;
  size_t cut = rest.rfind('\n', options_.chunk_bytes - 1);
  if (cut != std::string_view::npos) return rest.substr(0, cut + 1);
  cut = options_.chunk_bytes;
  for (int i = 0; i < 3 && cut > 1 && IsUtf8Continuation(rest[cut]); ++i) --cut;
  return rest.substr(0, cut);
}

bool Corpus::LoadChunk() {
  if (next_offset_ >= file_.size()) return false;
  ThrowIfInterrupted();
  const std::string_view chunk = ChunkAt(next_offset_);
  ids_ = tokenizer_.Encode(chunk);
  next_id_ = 0;
  next_offset_ += chunk.size();
  return true;
}

int64_t Corpus::TokensOfWindows(int64_t n) const {
  return std::min(n * window_text_tokens_, n_tokens_) + (has_bos_ ? n : 0);
}

std::vector<int32_t> Corpus::NextWindow() {
  const int64_t n = std::min(window_text_tokens_, n_tokens_ - tokens_taken_);
  CHECK(n > 0);
  std::vector<int32_t> window;
  window.reserve(static_cast<size_t>(n) + 1);
  if (has_bos_) window.push_back(tokenizer_.bos_id());
  const size_t full = window.size() + static_cast<size_t>(n);
  while (window.size() < full) {
    if (next_id_ == ids_.size()) {
      if (LoadChunk()) continue;
      throw Error({.path = path(), .what = "the file changed while it was being read"});
    }
    const size_t part = std::min(full - window.size(), ids_.size() - next_id_);
    const auto first = ids_.begin() + static_cast<std::ptrdiff_t>(next_id_);
    window.insert(window.end(), first, first + static_cast<std::ptrdiff_t>(part));
    next_id_ += part;
  }
  tokens_taken_ += n;
  return window;
}

}  // namespace thermocline
