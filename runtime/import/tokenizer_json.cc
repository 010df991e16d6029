// A tokenizer.json: byte-level BPE, SentencePiece's BPE, or unigram.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <unordered_map>

#include "runtime/core/error.h"
#include "runtime/import/imported_vocabulary.h"
#include "runtime/safetensors/bounded_json.h"
#include "runtime/text/pretokenizer_table.h"

namespace thermocline {
namespace {

using Json = nlohmann::json;

constexpr int64_t kMaxHoles = 1 << 16;                    // ids of a vocabulary that no token has
constexpr std::string_view kByteLevelSpace = "\xC4\xA0";  // U+0120

// A tokenizer.json on its way to a vocabulary.
class TokenizerReader {
 public:
  TokenizerReader(const Json& json, const std::string& path, const VocabularyOptions& options)
      : json_(json), path_(path), options_(options) {}

  ImportedVocabulary Read(std::vector<AddedToken>* added) {
    if (!json_.is_object()) Fail("the file", "an object", JsonKind(json_));
    model_ = &Member(json_, "model");
    if (!model_->is_object()) Fail("model", "an object", JsonKind(*model_));
    AppendAddedTokens(json_, path_, added);
    const std::string type = ModelType();
    if (type == "Unigram") {
      ReadUnigram();
    } else if (type == "BPE") {
      ReadPieces();
      if (IsByteLevel()) {
        ReadByteLevel();
      } else if (BoolOf(*model_, "byte_fallback")) {
        ReadSentencepieceLike();
      } else {
        Fail("model", "byte-level BPE, or BPE that falls back to bytes", "another BPE");
      }
    } else {
      Fail("model.type", "BPE or Unigram", fmt::format("\"{}\"", Printable(type)));
    }
    return std::move(vocab_);
  }

 private:
  [[noreturn]] void Fail(const std::string& what, std::string expected, std::string found,
                         std::string hint = "", std::vector<SettingUse> settings = {}) const {
    throw Error({.path = path_,
                 .what = what,
                 .expected = std::move(expected),
                 .found = std::move(found),
                 .hint = std::move(hint),
                 .settings = std::move(settings)});
  }

  const Json& Member(const Json& object, const char* key) const {
    const auto member = object.find(key);
    if (member == object.end() || member->is_null()) Fail(key, "to be there", "no such key");
    return *member;
  }
  static bool BoolOf(const Json& object, const char* key) {
    const auto member = object.find(key);
    return member != object.end() && member->is_boolean() && member->get<bool>();
  }
  static std::string StringOf(const Json& object, const char* key) {
    const auto member = object.is_object() ? object.find(key) : object.end();
    return member != object.end() && member->is_string() ? member->get<std::string>() : "";
  }

  // Older files do not say it.
  std::string ModelType() const {
    if (model_->contains("type")) return StringOf(*model_, "type");
    return model_->contains("merges") ? "BPE" : "Unigram";
  }

  int32_t IdOf(const Json& value, const std::string& what) const {
    const bool is_id = value.is_number_unsigned() && value.get<uint64_t>() < (1U << 24);
    if (!is_id) Fail(what, "an id below 2^24", JsonKind(value));
    return value.get<int32_t>();
  }

  // Reads the tokens by their ids; an id that none has is a hole.
  void ReadPieces() {
    const Json& pieces = Member(*model_, "vocab");
    if (!pieces.is_object() || pieces.empty()) {
      Fail("model.vocab", "an object: each token's id", JsonKind(pieces));
    }
    int64_t most = 0;
    for (const auto& [token, id] : pieces.items()) {
      most = std::max<int64_t>(most, IdOf(id, "the id of token " + Printable(token)));
    }
    if (most >= static_cast<int64_t>(pieces.size()) + kMaxHoles) {
      Fail("model.vocab", fmt::format("ids of {} tokens", pieces.size()), std::to_string(most));
    }
    vocab_.tokens.resize(static_cast<size_t>(most) + 1);
    vocab_.types.assign(vocab_.tokens.size(), TokenType::kUnused);
    for (const auto& [token, id] : pieces.items()) {
      const auto at = id.get<size_t>();
      if (vocab_.types[at] != TokenType::kUnused) {
        Fail("model.vocab", "an id for each token",
             fmt::format("{} for \"{}\" and \"{}\"", at, Printable(vocab_.tokens[at]),
                         Printable(token)));
      }
      vocab_.tokens[at] = token;
      vocab_.types[at] = TokenType::kNormal;
    }
  }

  // "left right" of each merge; spaces within a part become what byte-level names have for them.
  void ReadMerges(bool byte_level) {
    const Json& merges = Member(*model_, "merges");
    if (!merges.is_array()) Fail("model.merges", "an array", JsonKind(merges));
    for (const Json& merge : merges) {
      if (merge.is_string()) {
        vocab_.merges.push_back(merge.get<std::string>());
        continue;
      }
      const bool is_pair =
          merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string();
      if (!is_pair) Fail("model.merges", "\"left right\", or pairs of tokens", JsonKind(merge));
      vocab_.merges.push_back(PartOf(merge[0], byte_level) + " " + PartOf(merge[1], byte_level));
    }
  }

  static std::string PartOf(const Json& part, bool byte_level) {
    std::string text;
    for (const char c : part.get_ref<const std::string&>()) {
      if (byte_level && c == ' ') {
        text += kByteLevelSpace;
      } else {
        text += c;
      }
    }
    return text;
  }

  // Whether a part of the tokenizer, or one within it, is of a type.
  static bool HasType(const Json& part, std::string_view type) {
    if (!part.is_object()) return false;
    if (StringOf(part, "type") == type) return true;
    for (const char* inner : {"pretokenizers", "decoders", "normalizers"}) {
      const auto list = part.find(inner);
      if (list == part.end() || !list->is_array()) continue;
      for (const Json& one : *list) {
        if (HasType(one, type)) return true;
      }
    }
    return false;
  }
  const Json* Part(const char* key) const {
    const auto part = json_.find(key);
    return part == json_.end() || !part->is_object() ? nullptr : &*part;
  }
  bool PartHasType(const char* key, std::string_view type) const {
    return Part(key) != nullptr && HasType(*Part(key), type);
  }

  // The types of the normaliser's steps, one after the other.
  std::vector<std::string> NormalizerTypes() const {
    std::vector<std::string> types;
    if (Part("normalizer") != nullptr) AddTypes(*Part("normalizer"), &types);
    return types;
  }
  static void AddTypes(const Json& normalizer, std::vector<std::string>* types) {
    const std::string type = normalizer.is_object() ? StringOf(normalizer, "type") : "";
    const auto steps = normalizer.is_object() ? normalizer.find("normalizers") : normalizer.end();
    if (type != "Sequence" || steps == normalizer.end() || !steps->is_array()) {
      types->push_back(type);
      return;
    }
    for (const Json& step : *steps) AddTypes(step, types);
  }
  // Steps that would change what a text becomes, and that no key of a GGUF says.
  void RefuseOtherNormalizers(std::span<const std::string_view> known) const {
    for (const std::string& type : NormalizerTypes()) {
      if (std::ranges::find(known, type) != known.end()) continue;
      Fail("normalizer", fmt::format("none, {}", fmt::join(known, ", ")),
           fmt::format("\"{}\"", Printable(type)));
    }
  }

  bool IsByteLevel() const {
    return PartHasType("pre_tokenizer", "ByteLevel") || PartHasType("decoder", "ByteLevel");
  }

  void ReadByteLevel() {
    vocab_.model = "gpt2";
    ReadMerges(true);
    ReadPretokenizer();
    // What the pre-tokenizer's name says need not be said again.
    const UnicodeForm form = ReadUnicodeForm();
    if (form != FindPretokenizer(vocab_.pre)->form) vocab_.normalizer = UnicodeFormName(form);
  }

  UnicodeForm ReadUnicodeForm() const {
    const std::vector<std::string> steps = NormalizerTypes();
    const auto form = FindUnicodeForm(steps.empty() ? "none" : steps.front());
    if (form && steps.size() <= 1) return *form;
    Fail("normalizer", "none, NFC, NFD, NFKC or NFKD",
         fmt::format("\"{}\"", Printable(fmt::format("{}", fmt::join(steps, ", ")))));
  }

  void ReadPretokenizer() {
    vocab_.pre = options_.pretokenizer;
    if (!vocab_.pre.empty()) {
      if (FindPretokenizer(vocab_.pre)) return;
      Fail("pre-tokenizer", fmt::format("{}", fmt::join(PretokenizerNames(), ", ")),
           fmt::format("\"{}\"", Printable(vocab_.pre)), "", {{Setting::kPretokenizer}});
    }
    const auto recognised = RecognisePretokenizer(json_);
    if (!recognised) {
      const Json* const part = Part("pre_tokenizer");
      Fail("pre-tokenizer", "one that is known by its expressions",
           part == nullptr ? "none" : fmt::format("\"{}\"", Printable(part->dump(), 200)),
           "if you know whose it is, say its name", {{Setting::kPretokenizer}});
    }
    vocab_.pre = *recognised;
  }

  // The names of bytes, and the unknown token.
  void TypeSentencepieceTokens(const std::string& unknown) {
    for (size_t id = 0; id < vocab_.tokens.size(); ++id) {
      if (vocab_.types[id] != TokenType::kNormal) continue;
      if (ByteOfTokenName(vocab_.tokens[id]) >= 0) vocab_.types[id] = TokenType::kByte;
      if (vocab_.tokens[id] == unknown) vocab_.types[id] = TokenType::kUnknown;
    }
  }

  // SentencePiece merges what has the highest score. Merges come in the order of those scores, so
  // that the first that makes a token stands for the token's.
  void ReadSentencepieceLike() {
    vocab_.model = "llama";
    vocab_.pre = "default";
    constexpr std::string_view kSpaces[] = {"Prepend", "Replace"};  // U+2581 for a space
    RefuseOtherNormalizers(kSpaces);
    vocab_.add_space_prefix = AddsSpacePrefix();
    ReadMerges(false);
    std::unordered_map<std::string, size_t> ids;
    for (size_t id = 0; id < vocab_.tokens.size(); ++id) ids.emplace(vocab_.tokens[id], id);
    const float last = -static_cast<float>(vocab_.merges.size()) - 1;
    vocab_.scores.assign(vocab_.tokens.size(), last);
    for (size_t rank = vocab_.merges.size(); rank-- > 0;) {
      const std::string& merge = vocab_.merges[rank];
      const size_t space = merge.find(' ', 1);
      if (space == std::string::npos) continue;
      const auto made = ids.find(merge.substr(0, space) + merge.substr(space + 1));
      if (made != ids.end()) vocab_.scores[made->second] = -static_cast<float>(rank);
    }
    vocab_.merges.clear();
    TypeSentencepieceTokens(StringOf(*model_, "unk_token"));
  }

  // Whether texts begin with a space mark: as the normaliser or the pre-tokenizer says.
  bool AddsSpacePrefix() const {
    if (PartHasType("normalizer", "Prepend")) return true;
    const Json* const part = Part("pre_tokenizer");
    const Json* metaspace = part;
    if (part != nullptr && part->contains("pretokenizers") && (*part)["pretokenizers"].is_array()) {
      for (const Json& one : (*part)["pretokenizers"]) {
        if (StringOf(one, "type") == "Metaspace") metaspace = &one;
      }
    }
    if (metaspace == nullptr || StringOf(*metaspace, "type") != "Metaspace") return false;
    if (metaspace->contains("prepend_scheme")) {
      return StringOf(*metaspace, "prepend_scheme") != "never";
    }
    return !metaspace->contains("add_prefix_space") || BoolOf(*metaspace, "add_prefix_space");
  }

  void ReadUnigram() {
    vocab_.model = "t5";
    vocab_.pre = "default";
    constexpr std::string_view kSentencepieces[] = {"Precompiled", "Replace", "Strip", "Prepend"};
    RefuseOtherNormalizers(kSentencepieces);
    const Json& pieces = Member(*model_, "vocab");
    if (!pieces.is_array() || pieces.empty()) {
      Fail("model.vocab", "an array of pieces and scores", JsonKind(pieces));
    }
    for (const Json& piece : pieces) {
      const bool is_piece = piece.is_array() && piece.size() == 2 && piece[0].is_string() &&
                            piece[1].is_number() &&
                            std::abs(piece[1].get<double>()) <= std::numeric_limits<float>::max();
      if (!is_piece) Fail("model.vocab", "pieces and finite scores", JsonKind(piece));
      vocab_.tokens.push_back(piece[0].get<std::string>());
      vocab_.scores.push_back(static_cast<float>(piece[1].get<double>()));
    }
    vocab_.types.assign(vocab_.tokens.size(), TokenType::kNormal);
    std::string unknown;
    if (model_->contains("unk_id") && !(*model_)["unk_id"].is_null()) {
      const int32_t id = IdOf((*model_)["unk_id"], "model.unk_id");
      if (static_cast<size_t>(id) >= vocab_.tokens.size()) {
        Fail("model.unk_id", fmt::format("below {}", vocab_.tokens.size()), std::to_string(id));
      }
      vocab_.types[static_cast<size_t>(id)] = TokenType::kUnknown;
    }
    if (BoolOf(*model_, "byte_fallback")) TypeSentencepieceTokens(unknown);
    vocab_.add_space_prefix = AddsSpacePrefix();
    vocab_.remove_extra_spaces = true;
    ReadCharMap(Part("normalizer"));
  }

  // Finds a compiled map of characters, which is written in base 64.
  void ReadCharMap(const Json* normalizer) {
    if (normalizer == nullptr) return;
    const auto list = normalizer->find("normalizers");
    if (list != normalizer->end() && list->is_array()) {
      for (const Json& one : *list) ReadCharMap(&one);
    }
    if (StringOf(*normalizer, "type") != "Precompiled") return;
    constexpr std::string_view kDigits =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t bits = 0;
    int n_bits = 0;
    for (const char c : StringOf(*normalizer, "precompiled_charsmap")) {
      if (c == '=') break;
      const size_t digit = kDigits.find(c);
      if (digit == std::string_view::npos) {
        Fail("normalizer.precompiled_charsmap", "base 64", "other characters");
      }
      bits = bits << 6 | static_cast<uint32_t>(digit);
      n_bits += 6;
      if (n_bits < 8) continue;
      n_bits -= 8;
      vocab_.char_map += static_cast<char>(bits >> n_bits & 0xffU);
    }
  }

  const Json& json_;
  const std::string& path_;
  const VocabularyOptions& options_;
  const Json* model_ = nullptr;
  ImportedVocabulary vocab_;
};

}  // namespace

ImportedVocabulary ParseTokenizerJson(const Json& json, const std::string& path,
                                      const VocabularyOptions& options,
                                      std::vector<AddedToken>* added) {
  return TokenizerReader(json, path, options).Read(added);
}

}  // namespace thermocline
