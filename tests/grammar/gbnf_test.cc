// What grammars match, as llama.cpp's users write them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "tests/grammar/grammar_testing.h"
#include "tests/support/message_of.h"

namespace thermocline {
namespace {

struct Case {
  const char* grammar;
  std::vector<std::string> matches;
  std::vector<std::string> others;
};

TEST(GbnfTest, MatchesWhatItDescribes) {
  const std::vector<Case> cases = {
      {R"(root ::= "abc")", {"abc"}, {"", "ab", "abcd", "abd"}},
      {"root ::= \"a\" | \"b\" |\n \"c\"", {"a", "b", "c"}, {"", "ab"}},
      {R"(root ::= [a-c0-9_]+)", {"a", "c9_"}, {"", "d", "a-"}},
      {R"(root ::= [^\n"]*)", {"", "x y", "ä€😀"}, {"\n", "a\"", "\xC3", "\xED\xA0\x80", "\xFF"}},
      {R"(root ::= "a"{2,4} "b"{2} "c"{1,} "d"?)",
       {"aabbc", "aaaabbccccd"},
       {"abbc", "aaaaabbc", "aabc", "aabb", "aabbcdd"}},
      {"root ::= ( # a comment\n  \"x\" # another\n | y\n)* \"!\"\ny ::= \"y\" root2\nroot2 ::= "
       "\"z\"",
       {"!", "xxyz!", "yzx!"},
       {"y!", "x"}},
      {R"(root ::= "\x41\u00e4\U0001F600\t\"\\")", {"Aä😀\t\"\\"}, {"A"}},
      {R"(root ::= .)", {"a", "é", "日", "😀"}, {"", "ab", "\xE6\x97", "\xF4\x90\x80\x80"}},
      {R"(root ::= [ぁ-ゟ]+)", {"こんにちは"}, {"コ", "a"}},
      {R"(root ::= "" | "x" root)", {"", "x", "xxxx"}, {"xy"}},
      {R"~(root ::= "(" root ")" root | "")~", {"", "()", "(()())()"}, {"(", ")(", "(()"}},
      {"root ::= expr\nexpr ::= term ([-+*/] term)*\nterm ::= [0-9]+ | \"(\" expr \")\"",
       {"1", "1+2*(3-44)", "((1))"},
       {"", "1+", "(1", "()"}},
      {"root ::= a a a\na ::= \"x\"?", {"", "x", "xxx"}, {"xxxx"}},
      {"root ::= a*\na ::= \"x\"?  \"y\"?", {"", "x", "yxxyy"}, {"z"}},
      {R"~(root ::= ("a" | "ab") ("c" | "bc"))~", {"ac", "abc", "abbc"}, {"abb", "a"}},
      {"root ::= s s\ns ::= \"\\\"\" [^\"]* \"\\\"\"", {"\"a\"\"\"", "\"\"\"b\""}, {"\"a\""}},
      {R"(root ::= "a"**)", {"", "aaa"}, {"b"}},
      {"root ::= \"a\"\nroot ::= \"b\"", {"b"}, {"a"}},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.grammar);
    const auto grammar = Compile(c.grammar);
    for (const std::string& text : c.matches) EXPECT_TRUE(Matches(grammar, text)) << text;
    for (const std::string& text : c.others) EXPECT_FALSE(Matches(grammar, text)) << text;
  }
}

TEST(GbnfTest, RefusesWhatIsNoGrammar) {
  const auto error = [](const std::string& text) { return MessageOf([&] { Compile(text); }); };
  EXPECT_THAT(error("root ::= this is (not valid GBNF"), testing::HasSubstr("line 1"));
  EXPECT_THAT(error(""), testing::HasSubstr("no rule named root"));
  EXPECT_THAT(error("root ::= a"), testing::HasSubstr("does not define: a"));
  EXPECT_THAT(error("root ::= \"a\"\n\nb :: x"), testing::HasSubstr("line 3"));
  EXPECT_THAT(error("root ::= \"a"), testing::HasSubstr("expected"));
  EXPECT_THAT(error("root ::= [a"), testing::HasSubstr("expected"));
  EXPECT_THAT(error("root ::= [z-a]"), testing::HasSubstr("range"));
  EXPECT_THAT(error("root ::= *"), testing::HasSubstr("something to repeat"));
  EXPECT_THAT(error("root ::= \"a\"{3,2}"), testing::HasSubstr("repetitions"));
  EXPECT_THAT(error("root ::= \"a\"{99999999999999999999}"), testing::HasSubstr("repetitions"));
  EXPECT_THAT(error("root ::= \"\\ud800\""), testing::HasSubstr("Unicode"));
  EXPECT_THAT(error("root ::= root \"a\" | \"b\""), testing::HasSubstr("left recursion"));
  EXPECT_THAT(error("root ::= a root\na ::= \"x\"?"), testing::HasSubstr("left recursion"));
  EXPECT_THAT(error("root ::= \"a\" root"), testing::HasSubstr("no text that ends"));
  EXPECT_THAT(error("root ::= <unknown>"), testing::HasSubstr("<unknown>"));
  EXPECT_THAT(error("root ::= <[99999]>"), testing::HasSubstr("99999"));
  EXPECT_THAT(error("root ::= " + std::string(5000, '(') + "\"a\"" + std::string(5000, ')')),
              testing::HasSubstr("nest"));
  EXPECT_THAT(error("root ::= " + std::string(5000, '(')), testing::HasSubstr("nest"));
  EXPECT_THAT(error("root ::= \"a\"" + std::string(5000, '*')), testing::HasSubstr("repetitions"));
  EXPECT_THAT(error("root ::= ((((\"abc\"{1000}){1000}){1000}){1000})"),
              testing::HasSubstr("too large"));
  EXPECT_THAT(error("root ::= ([ab]* \"a\" [ab]{40})"), testing::HasSubstr("too large"));
}

TEST(GbnfTest, MasksAreExactForTokensOfSeveralBytes) {
  const auto vocabulary =
      ByteVocabulary({"ab", "abc", "bc", "c\"", "\"]", "\"],", "]]", "€", "\x82\xAC"});
  const int32_t n_tokens = vocabulary->size();
  const std::string json_like =
      "root ::= value\nvalue ::= \"[\" (value (\",\" value)*)? \"]\" | string\n"
      "string ::= \"\\\"\" [^\"\\n]* \"\\\"\"";
  const auto grammar = Compile(json_like, vocabulary);
  // Every id is allowed exactly where the grammar has its bytes; along texts of tokens.
  for (const std::string text : {"[[\"ab€\",[\"c\"]],\"\"]", "\"abc\"", "[[],[]]"}) {
    GrammarMask mask(grammar, {kEndToken});
    for (size_t at = 0; at <= text.size(); ++at) {
      const std::vector<int32_t> allowed = AllowedIds(mask, n_tokens);
      std::vector<int32_t> expected;
      for (int32_t id = 0; id < n_tokens; ++id) {
        GrammarMask copy = mask;
        const bool fits = id == kEndToken ? mask.may_end()
                                          : !vocabulary->bytes(id).empty() &&
                                                copy.AcceptText(vocabulary->bytes(id));
        if (fits) expected.push_back(id);
        EXPECT_EQ(mask.Allows(id), fits) << id;
      }
      EXPECT_EQ(allowed, expected) << text << " at " << at;
      if (at < text.size()) mask.Accept(static_cast<uint8_t>(text[at]));
    }
    EXPECT_TRUE(mask.may_end());
    mask.Accept(kEndToken);
    EXPECT_EQ(AllowedIds(mask, n_tokens), std::vector<int32_t>{kEndToken});
  }
}

// Grammars with rules that are called, copied, looped, counted and empty, on a vocabulary of all
// short texts of their letters: a mask has exactly the tokens whose bytes can be stepped along.
TEST(GbnfTest, MasksAreExactForRandomGrammars) {
  std::vector<std::string> tokens;
  for (const std::string letters = "ab["; tokens.size() < 3 + 9 + 27 + 81;) {
    const size_t n = tokens.size();
    if (n < 3) {
      tokens.emplace_back(1, letters[n]);
    } else {
      tokens.push_back(tokens[(n - 3) / 3] + letters[n % 3]);
    }
  }
  tokens.emplace_back("aaaaaaaaaaaaaaaaaaaa");
  tokens.emplace_back("abababababababababab[");
  const auto vocabulary = ByteVocabulary(tokens);
  std::mt19937 random(3);
  const std::vector<std::string> items = {"\"a\"", "\"b\"", "[ab]", "[^b]",   "x",
                                          "y",     "z",     "\"\"", "\"ab\"", "(\"[\" x \"a\")",
                                          "y",     "[^c]"};
  const auto expr = [&] {
    std::string out;
    for (uint32_t n = 1 + random() % 4; n > 0; --n) {
      const std::vector<std::string> counts = {"", "", "", "*", "?", "+", "{0,3}", "{2,40}"};
      out += items[random() % items.size()] + counts[random() % counts.size()] + " ";
      if (random() % 4 == 0) out += "| ";
    }
    return out;
  };
  int n_masks = 0;
  for (int i = 0; i < 200; ++i) {
    // In brackets, where a choice may end with nothing.
    const std::string gbnf = "root ::= (" + expr() + ")\nx ::= \"[\" root? \"a\" | \"b\" (" +
                             expr() + ")\ny ::= [^z]* \"b\" | \"\"\nz ::= \"a\" z | (" + expr() +
                             ")";
    try {
      GrammarMask mask(Compile(gbnf, vocabulary), {kEndToken});
      for (int step = 0; step < 8; ++step) {
        const std::vector<int32_t> allowed = AllowedIds(mask, vocabulary->size());
        std::vector<int32_t> expected;
        for (int32_t id = 0; id < vocabulary->size(); ++id) {
          if (mask.Allows(id)) expected.push_back(id);
        }
        ASSERT_EQ(allowed, expected) << gbnf;
        ++n_masks;
        const int32_t id = allowed.empty() ? kEndToken : allowed[random() % allowed.size()];
        if (id == kEndToken) break;
        mask.Accept(id);
      }
    } catch (const Error&) {  // left recursion, or too many ways to read a text
    }
  }
  EXPECT_GT(n_masks, 100);
}

TEST(GbnfTest, TokensCanBeNamed) {
  const auto vocabulary = ByteVocabulary({"ab"});
  const int32_t n_tokens = vocabulary->size();
  GrammarMask mask(Compile("root ::= <think> !<[97]>{2} <[258]>", vocabulary), {kEndToken});
  EXPECT_EQ(AllowedIds(mask, n_tokens), std::vector<int32_t>{kThinkToken});
  EXPECT_THROW(mask.Accept('a'), Error);
  mask.Accept(kThinkToken);
  EXPECT_EQ(AllowedIds(mask, n_tokens).size(), static_cast<size_t>(n_tokens) - 2);  // a, the end
  EXPECT_FALSE(mask.Allows('a'));
  mask.Accept('b');
  auto copy = mask.Clone();
  mask.Accept(258);
  EXPECT_EQ(AllowedIds(mask, n_tokens), std::vector<int32_t>{258});
  mask.Accept(258);
  EXPECT_TRUE(mask.may_end());
  EXPECT_EQ(AllowedIds(mask, n_tokens), std::vector<int32_t>{kEndToken});
  EXPECT_TRUE(copy->Allows(kThinkToken));
  EXPECT_FALSE(copy->Allows(kEndToken));
}

TEST(GbnfTest, NestingHasAnEnd) {
  const auto grammar = Compile("root ::= \"[\" root \"]\" | \"x\"");
  GrammarMask mask(grammar, {kEndToken});
  std::vector<uint32_t> words(static_cast<size_t>(TokenMaskWords(258)));
  int depth = 0;
  for (; depth < 2000; ++depth) {
    mask.Fill(words);
    ASSERT_EQ(HasToken(words, '['), mask.Allows('[')) << depth;
    if (!mask.Allows('[')) break;
    mask.Accept('[');
  }
  EXPECT_EQ(depth, static_cast<int>(kMaxFrameDepth));
  EXPECT_TRUE(mask.AcceptText("x" + std::string(static_cast<size_t>(depth), ']')));
  EXPECT_TRUE(mask.may_end());
}

TEST(GbnfTest, LongCountsAreFewMasks) {
  std::vector<std::string> words;
  for (const char* word : {"the", " cat", " sat", "é!", "ing"}) words.emplace_back(word);
  const auto grammar = Compile("root ::= \"<\" [^<>]{0,2000} \">\"", ByteVocabulary(words));
  GrammarMask mask(grammar, {kEndToken});
  std::vector<uint32_t> allowed(static_cast<size_t>(TokenMaskWords(kFirstFurtherToken + 5)));
  mask.Accept('<');
  for (int i = 0; i < 2000; ++i) {
    mask.Fill(allowed);
    ASSERT_TRUE(HasToken(allowed, 'x')) << i;
    mask.Accept('x');
  }
  mask.Fill(allowed);
  EXPECT_FALSE(HasToken(allowed, 'x'));
  EXPECT_TRUE(HasToken(allowed, '>'));
  EXPECT_LT(grammar->mask_stats().n_walks, 20U);
}

TEST(GbnfTest, AmbiguityIsBounded) {
  const auto grammar = Compile(
      "root ::= a | b\na ::= \"x\" a \"1\" | \"x\" b \"2\" | \"x\"\n"
      "b ::= \"x\" a \"3\" | \"x\" b \"4\" | \"x\"");
  GrammarMask mask(grammar, {kEndToken});
  EXPECT_THROW(
      {
        for (int i = 0; i < 100; ++i) mask.Accept('x');
      },
      Error);
}

}  // namespace
}  // namespace thermocline
