// Unicode's normalization forms against Python's unicodedata
// (goldens/make_unicode_form_goldens.py).
#include "runtime/text/unicode_form.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/text/test_vocabulary.h"

namespace thermocline {
namespace {

using testing::HasSubstr;

std::string InForm(std::string_view text, UnicodeForm form) {
  std::string buffer = "what was there";
  return std::string(ToUnicodeForm(text, form, &buffer));
}

TEST(UnicodeFormTest, GivesWhatUnicodedataGives) {
  std::ifstream file(std::string(THERMOCLINE_SOURCE_DIR) +
                     "/tests/text/goldens/unicode_forms.json");
  const auto golden = nlohmann::json::parse(file);
  ASSERT_GT(golden["cases"].size(), 800U);
  for (size_t f = 0; f < golden["forms"].size(); ++f) {
    const UnicodeForm form = FindUnicodeForm(golden["forms"][f].get<std::string>()).value();
    for (const auto& texts : golden["cases"]) {
      const auto text = texts[0].get<std::string>();
      const auto expected = texts[f + 1].get<std::string>();
      ASSERT_EQ(InForm(text, form), expected) << golden["forms"][f] << " of " << texts[0];
      EXPECT_EQ(InForm(expected, form), expected);
      // Beside bytes that are no characters, and beside ASCII.
      ASSERT_EQ(InForm("\xFFlong enough for words" + text + "\xF0\x9F", form),
                "\xFFlong enough for word" + InForm("s" + text, form) + "\xF0\x9F")
          << texts[0];
    }
  }
}

TEST(UnicodeFormTest, ATextInTheFormIsNotCopied) {
  std::string buffer = "untouched";
  for (const std::string text : {"", "ASCII alone, longer than sixteen bytes",
                                 "\u00e9t\u00e9 \u6c34", "\xFF\xC3 \xE6\xB0", "\uac00\u11a8"}) {
    const std::string_view same = ToUnicodeForm(text, UnicodeForm::kNone, &buffer);
    EXPECT_EQ(same.data(), text.data());
  }
  const std::string composed = "\u00e9t\u00e9 \u6c34 \U0001f600 \u1ec7";
  EXPECT_EQ(ToUnicodeForm(composed, UnicodeForm::kNfc, &buffer).data(), composed.data());
  EXPECT_EQ(buffer, "untouched");
}

// Marks without end, in the wrong order: the time is that of sorting them.
TEST(UnicodeFormTest, ManyMarksAreSorted) {
  std::string text = "a";
  std::string expected = "\u1ea1";  // with the dot below, which comes first
  constexpr int kMarks = 100'000;
  for (int i = 0; i < kMarks; ++i) text += "\u0301\u0323";
  for (int i = 1; i < kMarks; ++i) expected += "\u0323";
  for (int i = 0; i < kMarks; ++i) expected += "\u0301";
  EXPECT_EQ(InForm(text, UnicodeForm::kNfc), expected);
}

// The form that a file names, or else the one of the tokenizer whose name it gives.
TEST(UnicodeFormTest, ATokenizerCutsTextsInItsForm) {
  Keys keys = BpeKeys({"\u00c3 \u00a9"});  // the two bytes of an e with an acute accent
  const std::string apart = "e\u0301";
  const std::string joined = "\u00e9";
  const auto qwen = TokenizerFromKeys(keys);
  EXPECT_EQ(qwen->Encode(apart), qwen->Encode(joined));
  EXPECT_EQ(qwen->Decode(qwen->Encode("x" + apart + "\xFF")), "x" + joined + "\xFF");
  keys["thermocline.tokenizer.normalizer"] = GgufValue::string("none");
  const auto plain = TokenizerFromKeys(keys);
  EXPECT_EQ(plain->Decode(plain->Encode(apart)), apart);
  keys["tokenizer.ggml.pre"] = GgufValue::string("gpt-2");
  EXPECT_EQ(TokenizerFromKeys(keys)->Decode(plain->Encode(apart)), apart);
  keys["thermocline.tokenizer.normalizer"] = GgufValue::string("NFKC");
  const auto compatible = TokenizerFromKeys(keys);
  EXPECT_EQ(compatible->Decode(compatible->Encode("\ufb01n")), "fin");
  keys["thermocline.tokenizer.normalizer"] = GgufValue::string("Lowercase");
  EXPECT_THAT(ErrorOf(keys), HasSubstr("expected none, NFC, NFD, NFKC or NFKD"));
}

}  // namespace
}  // namespace thermocline
