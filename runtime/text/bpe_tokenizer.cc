#include "runtime/text/bpe_tokenizer.h"

#include <algorithm>
#include <span>
#include <utility>

#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"
#include "runtime/text/byte_level.h"
#include "runtime/text/pieces.h"
#include "runtime/text/utf8.h"
#include "runtime/text/word_cache.h"
#include "runtime/text/word_merger.h"

namespace thermocline {
namespace {

constexpr size_t kWordsBetweenPolls = size_t{1} << 14;

}  // namespace

class BpeTokenizer::Workspace {
 public:
  explicit Workspace(const MergeTable& merges) : merger(merges) {}

  WordCache cache;
  WordMerger merger;
  std::vector<int32_t> ids;
  size_t n_words = 0;
};

BpeTokenizer::BpeTokenizer(BpeVocabulary bpe)
    : VocabularyTokenizer(std::move(bpe.vocab)),
      byte_level_(!bpe.pretokenizer.plain_pieces),
      form_(bpe.pretokenizer.form),
      merges_(bpe.merges),
      pretokenizer_(bpe.pretokenizer),
      user_defined_(vocab(), {TokenType::kUserDefined}),
      all_special_(vocab(), {TokenType::kUserDefined, TokenType::kControl, TokenType::kUnknown}),
      ignore_merges_(bpe.pretokenizer.ignore_merges) {
  if (byte_level_ && !ignore_merges_) return;
  for (int32_t id = 0; id < vocab().size(); ++id) {
    if (IsTextToken(vocab(), id, !byte_level_)) ids_by_name_.emplace(vocab().tokens[id], id);
  }
  if (byte_level_) return;
  // Of all tokens, not only of what merges make: line ends are taken as one without merges.
  for (const auto& [name, id] : ids_by_name_) boundaries_.AddPiece(name);
  boundaries_.finish();
}

BpeTokenizer::~BpeTokenizer() = default;

std::vector<int32_t> BpeTokenizer::EncodeText(std::string_view text, bool parse_special) const {
  const SpecialTokens& special = parse_special ? all_special_ : user_defined_;
  std::unique_ptr<Workspace> workspace = workspaces_.Take(merges_);
  std::vector<int32_t> ids;
  const Emit encode = [&](std::string_view word) { EncodeWord(word, *workspace, &ids); };
  while (const auto match = special.FindFirst(text)) {
    SplitWords(text.substr(0, match->begin), encode);
    ids.push_back(match->id);
    text.remove_prefix(match->begin + match->n_bytes);
  }
  SplitWords(text, encode);
  workspaces_.Return(std::move(workspace));
  return ids;
}

void BpeTokenizer::SplitWords(std::string_view text, const Emit& emit) const {
  std::string buffer;
  text = ToUnicodeForm(text, form_, &buffer);
  if (byte_level_) {
    pretokenizer_.Split(text, emit);
    return;
  }
  pretokenizer_.Split(EscapeSpaces(text), [&](std::string_view line) {
    while (!line.empty()) {
      const size_t n_bytes = boundaries_.FirstWord(line);
      emit(line.substr(0, n_bytes));
      line.remove_prefix(n_bytes);
    }
  });
}

void BpeTokenizer::EncodeWord(std::string_view word, Workspace& workspace,
                              std::vector<int32_t>* ids) const {
  if (++workspace.n_words % kWordsBetweenPolls == 0) ThrowIfInterrupted();
  const std::span<const int32_t> known = workspace.cache.Find(word);
  if (!known.empty()) {
    ids->insert(ids->end(), known.begin(), known.end());
    return;
  }
  MergeWord(word, workspace);
  ids->insert(ids->end(), workspace.ids.begin(), workspace.ids.end());
  workspace.cache.Store(word, workspace.ids);
}

void BpeTokenizer::MergeWord(std::string_view word, Workspace& workspace) const {
  std::vector<int32_t>& ids = workspace.ids;
  ids.clear();
  const int32_t whole = WholeWord(word);
  if (whole >= 0) {
    ids.push_back(whole);
    return;
  }
  AppendSymbols(word, &ids);
  workspace.merger.Merge(&ids);
  // Bytes without a token are joined with nothing.
  if (vocab().unknown_id >= 0) {
    std::replace(ids.begin(), ids.end(), -1, vocab().unknown_id);
  } else {
    ids.erase(std::remove(ids.begin(), ids.end(), -1), ids.end());
  }
}

int32_t BpeTokenizer::WholeWord(std::string_view word) const {
  // Line ends that are a token stay together even where no merges lead to it.
  const bool is_line_ends = !byte_level_ && word.find_first_not_of('\n') == word.npos;
  if (!ignore_merges_ && !is_line_ends) return -1;
  const auto found =
      byte_level_ ? ids_by_name_.find(EncodeByteLevel(word)) : ids_by_name_.find(word);
  return found == ids_by_name_.end() ? -1 : found->second;
}

void BpeTokenizer::AppendSymbols(std::string_view word, std::vector<int32_t>* ids) const {
  while (!word.empty()) {
    size_t n_bytes = 1;
    if (!byte_level_) {
      n_bytes = FirstUtf8Char(word).n_bytes;
      const auto found = ids_by_name_.find(word.substr(0, n_bytes));
      if (found != ids_by_name_.end()) {
        ids->push_back(found->second);
        word.remove_prefix(n_bytes);
        continue;
      }
    }
    for (size_t i = 0; i < n_bytes; ++i) {
      ids->push_back(vocab().byte_ids[static_cast<uint8_t>(word[i])]);
    }
    word.remove_prefix(n_bytes);
  }
}

std::string BpeTokenizer::TokenBytes(int32_t id) const {
  CHECK(id >= 0 && id < vocab().size());
  const std::string& name = vocab().tokens[id];
  switch (vocab().types[id]) {
    case TokenType::kControl:
    case TokenType::kUnknown:
    case TokenType::kUnused:
      return "";
    case TokenType::kUserDefined:
      return name;
    default:
      if (!byte_level_) return PieceBytes(vocab(), id);
      // A name that is no spelling of bytes is the text itself.
      return DecodeByteLevel(name).value_or(name);
  }
}

}  // namespace thermocline
