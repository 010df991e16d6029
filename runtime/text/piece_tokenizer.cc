#include "runtime/text/piece_tokenizer.h"

#include <fmt/format.h>

#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"

namespace thermocline {
namespace {

constexpr size_t kBytesBetweenPolls = size_t{1} << 14;
// The longest word that cannot be cut: sentencepiece counts in 32 bits and makes up to three bytes
// of one, and the best way through a unigram model takes 16 bytes of memory for each.
constexpr size_t kMaxWordBytes = size_t{1} << 28;

}  // namespace

PieceTokenizer::PieceTokenizer(Vocabulary vocabulary, size_t long_word_bytes)
    : VocabularyTokenizer(std::move(vocabulary)), long_word_bytes_(long_word_bytes) {}

std::vector<int32_t> PieceTokenizer::EncodeText(std::string_view text, bool parse_special) const {
  std::unique_ptr<Workspace> workspace = workspaces_.Take();
  std::vector<int32_t> ids;
  while (const auto match = parse_special ? control_tokens().FindFirst(text) : std::nullopt) {
    EncodePlain(text.substr(0, match->begin), *workspace, &ids);
    ids.push_back(match->id);
    text.remove_prefix(match->begin + match->n_bytes);
  }
  EncodePlain(text, *workspace, &ids);
  workspaces_.Return(std::move(workspace));
  return ids;
}

void PieceTokenizer::EncodeWords(std::string_view text, Workspace& workspace,
                                 std::vector<int32_t>* ids) const {
  while (!text.empty()) {
    const std::string_view word = text.substr(0, boundaries_.FirstWord(text, long_word_bytes_));
    workspace.n_bytes += word.size();
    if (workspace.n_bytes >= kBytesBetweenPolls) {
      ThrowIfInterrupted();
      workspace.n_bytes = 0;
    }
    if (word.size() > kMaxWordBytes) {
      throw Error({vocab().path, "text that this vocabulary cannot cut into parts",
                   fmt::format("at most {} bytes", kMaxWordBytes),
                   fmt::format("{} bytes", word.size()), ""});
    }
    std::span<const int32_t> word_ids = workspace.cache.Find(word);
    if (word_ids.empty()) {
      EncodeWord(word, workspace);
      workspace.cache.Store(word, workspace.ids);
      word_ids = workspace.ids;
    }
    for (const int32_t id : word_ids) Append(id, ids);
    text.remove_prefix(word.size());
  }
}

void PieceTokenizer::Append(int32_t id, std::vector<int32_t>* ids) const {
  const bool continues_unknown =
      id == vocab().unknown_id && !ids->empty() && ids->back() == vocab().unknown_id;
  if (!continues_unknown) ids->push_back(id);
}

}  // namespace thermocline
