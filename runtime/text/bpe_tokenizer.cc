#include "runtime/text/bpe_tokenizer.h"

#include <algorithm>
#include <span>
#include <utility>

#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"
#include "runtime/text/byte_level.h"
#include "runtime/text/word_cache.h"
#include "runtime/text/word_merger.h"

namespace thermocline {
namespace {

constexpr size_t kWordsBetweenPolls = size_t{1} << 14;
constexpr size_t kMaxFreeWorkspaces = 4;  // some 2 MiB each

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
    : vocab_(std::move(bpe.vocab)),
      merges_(bpe.merges),
      pretokenizer_(bpe.pretokenizer),
      user_defined_(vocab_, {TokenType::kUserDefined}),
      control_(vocab_, {TokenType::kControl, TokenType::kUnknown}),
      all_special_(vocab_, {TokenType::kUserDefined, TokenType::kControl, TokenType::kUnknown}) {
  if (!bpe.pretokenizer.ignore_merges) return;
  for (int32_t id = 0; id < vocab_.size(); ++id) {
    if (IsTextToken(vocab_, id)) whole_words_.emplace(vocab_.tokens[id], id);
  }
}

BpeTokenizer::~BpeTokenizer() = default;

std::unique_ptr<BpeTokenizer::Workspace> BpeTokenizer::TakeWorkspace() const {
  {
    const std::lock_guard lock(mutex_);
    if (!free_workspaces_.empty()) {
      std::unique_ptr<Workspace> workspace = std::move(free_workspaces_.back());
      free_workspaces_.pop_back();
      return workspace;
    }
  }
  return std::make_unique<Workspace>(merges_);
}

void BpeTokenizer::ReturnWorkspace(std::unique_ptr<Workspace> workspace) const {
  const std::lock_guard lock(mutex_);
  if (free_workspaces_.size() < kMaxFreeWorkspaces) {
    free_workspaces_.push_back(std::move(workspace));
  }
}

std::vector<int32_t> BpeTokenizer::EncodeText(std::string_view text, bool parse_special) const {
  const SpecialTokens& special = parse_special ? all_special_ : user_defined_;
  std::unique_ptr<Workspace> workspace = TakeWorkspace();
  std::vector<int32_t> ids;
  const Pretokenizer::Emit encode = [&](std::string_view word) {
    EncodeWord(word, *workspace, &ids);
  };
  while (const auto match = special.FindFirst(text)) {
    pretokenizer_.Split(text.substr(0, match->begin), encode);
    ids.push_back(match->id);
    text.remove_prefix(match->begin + match->n_bytes);
  }
  pretokenizer_.Split(text, encode);
  ReturnWorkspace(std::move(workspace));
  return ids;
}

void BpeTokenizer::EncodeWord(std::string_view word, Workspace& workspace,
                              std::vector<int32_t>* ids) const {
  if (++workspace.n_words % kWordsBetweenPolls == 0) ThrowIfInterrupted();
  const std::span<const int32_t> known = workspace.cache.Find(word);
  if (!known.empty()) {
    ids->insert(ids->end(), known.begin(), known.end());
    return;
  }
  MergeBytes(word, workspace);
  ids->insert(ids->end(), workspace.ids.begin(), workspace.ids.end());
  workspace.cache.Store(word, workspace.ids);
}

void BpeTokenizer::MergeBytes(std::string_view word, Workspace& workspace) const {
  std::vector<int32_t>& ids = workspace.ids;
  ids.clear();
  if (!whole_words_.empty()) {
    const auto whole = whole_words_.find(EncodeByteLevel(word));
    if (whole != whole_words_.end()) {
      ids.push_back(whole->second);
      return;
    }
  }
  for (const char byte : word) ids.push_back(vocab_.byte_ids[static_cast<uint8_t>(byte)]);
  workspace.merger.Merge(&ids);
  // Bytes without a token are joined with nothing.
  if (vocab_.unknown_id >= 0) {
    std::replace(ids.begin(), ids.end(), -1, vocab_.unknown_id);
  } else {
    ids.erase(std::remove(ids.begin(), ids.end(), -1), ids.end());
  }
}

std::string BpeTokenizer::TokenBytes(int32_t id) const {
  CHECK(id >= 0 && id < vocab_.size());
  const std::string& name = vocab_.tokens[id];
  switch (vocab_.types[id]) {
    case TokenType::kControl:
    case TokenType::kUnknown:
    case TokenType::kUnused:
      return "";
    case TokenType::kUserDefined:
      return name;
    default:
      // A name that is no spelling of bytes is the text itself.
      return DecodeByteLevel(name).value_or(name);
  }
}

std::string BpeTokenizer::TokenName(int32_t id) const {
  const std::string bytes = TokenBytes(id);
  return bytes.empty() ? vocab_.tokens[id] : bytes;
}

}  // namespace thermocline
