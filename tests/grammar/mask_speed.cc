// Prints what masks cost in processor time: for a usual JSON schema and for any JSON object, on a
// vocabulary of 128k tokens, in the first texts and in later ones. Usage: mask_speed
// [VOCABULARY.gguf]; without one, the tokens are made of syllables, numbers, punctuation and
// spaces, as byte-level BPE has them.
#include <algorithm>
#include <cstdio>
#include <ctime>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "runtime/gguf/gguf_reader.h"
#include "runtime/grammar/json_schema.h"
#include "runtime/text/tokenizer.h"
#include "tests/grammar/grammar_testing.h"

namespace thermocline {
namespace {

// This thread's processor time in us: other programs do not count.
double ProcessorMicros() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_nsec) / 1e3;
}

constexpr size_t kTokens = 128'000;
constexpr int kTexts = 60;
constexpr int kWarmUpTexts = 30;

constexpr const char* kUsualSchema = R"({
  "type": "object",
  "properties": {
    "id": {"type": "integer", "minimum": 1, "maximum": 1000000},
    "name": {"type": "string", "minLength": 1, "maxLength": 80},
    "email": {"type": "string", "format": "email"},
    "status": {"enum": ["active", "inactive", "pending"]},
    "created": {"type": "string", "format": "date-time"},
    "score": {"type": "number"},
    "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 8},
    "address": {"type": "object", "properties": {"street": {"type": "string"},
      "city": {"type": "string"}, "zip": {"type": "string", "pattern": "^[0-9]{5}$"}},
      "required": ["street", "city"], "additionalProperties": false},
    "notes": {"anyOf": [{"type": "string"}, {"type": "null"}]}},
  "required": ["id", "name", "status", "tags", "address"], "additionalProperties": false})";

std::shared_ptr<const GrammarVocabulary> MadeUpVocabulary() {
  std::mt19937 random(11);
  std::vector<std::string> further;
  std::set<std::string> known;
  const auto add = [&](const std::string& token) {
    if (known.insert(token).second) further.push_back(token);
  };
  for (int n = 0; n < 1000; ++n) add(std::to_string(n));
  for (const char* a : {"\"", "{", "}", "[", "]", ",", ":", "\\", "'", "(", ")", ";", "."}) {
    for (const char* b : {"\"", "{", "}", "[", "]", ",", ":", " \"", "\n", "\\", "n", ")"}) {
      add(std::string(a) + b);
      for (const char* c : {"\"", "}", "]", ",", " {", "\n\n"}) add(std::string(a) + b + c);
    }
  }
  for (size_t n = 1; n < 80; ++n) add(std::string(n, ' '));
  const char* const syllables[] = {"ka", "to", "in", "er", "st", "ation", "pre", "com", "un",
                                   "ly", "é",  "ü",  "日", "本", "при",   "вет", "ing", "the",
                                   "A",  "B",  "or", "al", "is", "en",    "de",  "con", "ed"};
  while (further.size() + 258 < kTokens) {
    std::string word = random() % 2 == 0 ? " " : "";
    for (uint32_t n = 1 + random() % 5; n > 0; --n)
      word += syllables[random() % std::size(syllables)];
    if (random() % 30 == 0) word += random() % 2 == 0 ? "\"" : "\",";
    add(word);
  }
  return ByteVocabulary(further);
}

double Quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  return values[std::min(values.size() - 1,
                         static_cast<size_t>(q * static_cast<double>(values.size())))];
}

void Measure(const char* name, const std::string& gbnf,
             const std::shared_ptr<const GrammarVocabulary>& vocabulary, int32_t end) {
  const auto compiling = ProcessorMicros();
  const auto grammar = std::make_shared<CompiledGrammar>(gbnf, vocabulary);
  std::printf("%s: %zu states, %zu classes, compiled in %.1f ms\n", name,
              grammar->automaton().n_states(), grammar->automaton().n_mask_classes(0),
              (ProcessorMicros() - compiling) / 1000);
  std::mt19937 random(5);
  std::vector<uint32_t> allowed(static_cast<size_t>(TokenMaskWords(vocabulary->size())));
  std::vector<double> cold;
  std::vector<double> warm;
  for (int text = 0; text < kTexts; ++text) {
    GrammarMask mask(grammar, {end});
    for (int n = 0; n < 250; ++n) {
      const auto begin = ProcessorMicros();
      mask.Fill(allowed);
      double cost = ProcessorMicros() - begin;
      // Every other token is the longest of some: as models write, in whole words.
      int32_t chosen = -1;
      size_t longest = 0;
      const size_t tries = n % 2 == 0 ? 40 : 1;
      std::vector<int32_t> ids;
      for (int32_t id = 0; id < vocabulary->size(); ++id) {
        if (HasToken(allowed, id)) ids.push_back(id);
      }
      for (size_t i = 0; i < tries; ++i) {
        const int32_t id = ids[random() % ids.size()];
        if (chosen >= 0 && vocabulary->bytes(id).size() <= longest) continue;
        chosen = id;
        longest = vocabulary->bytes(id).size();
      }
      const auto accepting = ProcessorMicros();
      mask.Accept(chosen);
      cost += ProcessorMicros() - accepting;
      (text < kWarmUpTexts ? cold : warm).push_back(cost);
      if (chosen == end) break;
    }
  }
  const auto print = [](const char* what, const std::vector<double>& costs) {
    double sum = 0;
    for (const double cost : costs) sum += cost;
    std::printf("  %s: %zu tokens, us per token: mean %.1f, median %.1f, p99 %.1f, most %.1f\n",
                what, costs.size(), sum / static_cast<double>(costs.size()), Quantile(costs, 0.5),
                Quantile(costs, 0.99), Quantile(costs, 1));
  };
  print("first texts", cold);
  print("later texts", warm);
  const MaskCache::Stats stats = grammar->mask_stats();
  std::printf("  %zu walks, %.1f MiB kept\n", stats.n_walks,
              static_cast<double>(stats.kept_bytes) / (1 << 20));
}

int Main(int argc, char** argv) {
  int32_t end = kEndToken;
  std::shared_ptr<const GrammarVocabulary> vocabulary;
  const auto began = ProcessorMicros();
  if (argc > 1) {
    const GgufReader gguf(argv[1]);
    const std::unique_ptr<Tokenizer> tokenizer = MakeTokenizer(gguf);
    vocabulary = std::make_shared<GrammarVocabulary>(*tokenizer);
    end = tokenizer->eos_id();
  } else {
    vocabulary = MadeUpVocabulary();
  }
  std::printf("%d tokens, %u nodes, made in %.0f ms\n", vocabulary->size(),
              vocabulary->short_tokens().size(), (ProcessorMicros() - began) / 1000);
  Measure("a usual schema", JsonSchemaGbnf(SchemaJson::parse(kUsualSchema)), vocabulary, end);
  Measure("any object", JsonObjectGbnf(), vocabulary, end);
  return 0;
}

}  // namespace
}  // namespace thermocline

int main(int argc, char** argv) { return thermocline::Main(argc, argv); }
