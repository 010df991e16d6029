#include "runtime/text/sentencepiece_tokenizer.h"

#include <exception>
#include <utility>

#include "runtime/core/error.h"
#include "runtime/text/sentencepiece_proto.h"
#include "runtime/text/utf8.h"

namespace thermocline {
namespace {

void CheckStatus(const sentencepiece::util::Status& status, const Vocabulary& vocab,
                 const char* what) {
  if (status.ok()) return;
  throw Error({vocab.path, what, "", ReplaceInvalidUtf8(status.ToString()), ""});
}

// Removes extra spaces as the library does it when asked to: none at the ends, one in place of
// several.
std::string WithoutExtraSpaces(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c != ' ' || (!out.empty() && out.back() != ' ')) out += c;
  }
  if (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

}  // namespace

SentencePieceTokenizer::SentencePieceTokenizer(Vocabulary vocabulary, size_t chunk_bytes)
    : PieceTokenizer(std::move(vocabulary), chunk_bytes) {
  // The space in front of a text and the removal of extra ones are done in EncodePlain(), as the
  // library is handed single words.
  const std::string proto = SentencepieceModelProto(vocab(), NormalizerOptions{});
  try {
    CheckStatus(processor_.LoadFromSerializedProto(proto), vocab(),
                "sentencepiece does not accept the vocabulary");
  } catch (const Error&) {
    throw;
  } catch (const std::exception& e) {
    throw Error({vocab().path, "sentencepiece does not accept the vocabulary", "", e.what(), ""});
  }
  MergeBoundaries boundaries;
  for (int32_t id = 0; id < vocab().size(); ++id) {
    boundaries.AddPiece(MatchablePiece(vocab(), id));
  }
  boundaries.finish();
  SetBoundaries(std::move(boundaries));
}

void SentencePieceTokenizer::EncodePlain(std::string_view text, Workspace& workspace,
                                         std::vector<int32_t>* ids) const {
  std::string cleaned;
  if (vocab().remove_extra_spaces) {
    cleaned = WithoutExtraSpaces(text);
    text = cleaned;
  }
  bool at_start = true;
  while (!text.empty()) {
    const size_t n_bytes = ValidUtf8Prefix(text);
    std::string escaped(at_start && vocab().add_space_prefix ? kSpaceSign : "");
    at_start = false;
    escaped += EscapeSpaces(text.substr(0, n_bytes));
    EncodeWords(escaped, workspace, ids);
    text.remove_prefix(n_bytes);
    while (!text.empty() && FirstUtf8Char(text).status != Utf8Status::kValid) {
      Append(vocab().has_byte_tokens ? vocab().byte_ids[static_cast<uint8_t>(text[0])]
                                     : vocab().unknown_id,
             ids);
      text.remove_prefix(1);
    }
  }
}

void SentencePieceTokenizer::EncodeWord(std::string_view word, Workspace& workspace) const {
  CheckStatus(processor_.Encode(word, &workspace.ids), vocab(),
              "sentencepiece cannot encode a text");
}

}  // namespace thermocline
