// Filling in, with a model whose vocabulary has the tokens for it: the prompt is what models of
// that kind were trained on.
#include "tools/serve/infill.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "tests/powerinfer/powerinfer_files.h"
#include "tests/support/temp_dir.h"
#include "tests/tools/models.h"
#include "tools/serve/service.h"

namespace thermocline {
namespace {

using ::testing::HasSubstr;

constexpr int32_t kPrefixToken = 300;
constexpr int32_t kSuffixToken = 301;
constexpr int32_t kMiddleToken = 302;
constexpr int32_t kFileToken = 303;

// Waits for the whole of an answer.
class WaitingReply : public HttpReply {
 public:
  void Send(HttpResponse response) override {
    const std::lock_guard lock(mutex_);
    response_ = std::move(response);
    came_ = true;
    changed_.notify_all();
  }
  void Begin(HttpResponse /*response*/) override {}
  void Write(std::string /*piece*/) override {}
  void End() override {}
  void OnGone(std::function<void()> /*gone*/) override {}
  bool gone() const override { return false; }

  HttpResponse Wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return came_; });
    return response_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool came_ = false;
  HttpResponse response_;
};

class InfillTest : public ::testing::Test {
 protected:
  InfillTest() {
    WriteEdited(
        DemoModel(), Path(),
        [](EditedFile& file) {
          file.keys["tokenizer.ggml.fim_pre_token_id"] = GgufValue::u32(kPrefixToken);
          file.keys["tokenizer.ggml.fim_suf_token_id"] = GgufValue::u32(kSuffixToken);
          file.keys["tokenizer.ggml.fim_mid_token_id"] = GgufValue::u32(kMiddleToken);
          file.keys["tokenizer.ggml.fim_sep_token_id"] = GgufValue::u32(kFileToken);
        },
        "GGUF");
  }
  std::string Path() const { return dir_.file("fim.gguf"); }

  TempDir dir_;
};

std::vector<int32_t> JoinedIds(std::vector<std::vector<int32_t>> parts) {
  std::vector<int32_t> all;
  for (const auto& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

TEST_F(InfillTest, PutsTheTextsBetweenTheTokens) {
  const GgufReader gguf(Path());
  const auto tokenizer = MakeTokenizer(gguf);
  const InfillTokens tokens = FindInfillTokens(gguf, *tokenizer);
  EXPECT_EQ(tokens.prefix, kPrefixToken);
  EXPECT_EQ(tokens.suffix, kSuffixToken);
  EXPECT_EQ(tokens.middle, kMiddleToken);
  EXPECT_EQ(tokens.file, kFileToken);
  const auto ids_of = [&](const std::string& text) { return tokenizer->Encode(text); };
  const std::vector<int32_t> begin =
      tokenizer->add_bos() ? std::vector<int32_t>{tokenizer->bos_id()} : std::vector<int32_t>{};
  ApiJson body = {{"input_prefix", "It was "}, {"input_suffix", " of times"}, {"prompt", "the "}};
  EXPECT_EQ(InfillPrompt(Fields(body), tokens, *tokenizer), JoinedIds({begin,
                                                                       {kPrefixToken},
                                                                       ids_of("It was the "),
                                                                       {kSuffixToken},
                                                                       ids_of(" of times"),
                                                                       {kMiddleToken}}));
  body["input_extra"] = {{{"filename", "a.txt"}, {"text", "worst"}}, {{"text", "best"}}};
  EXPECT_EQ(InfillPrompt(Fields(body), tokens, *tokenizer), JoinedIds({begin,
                                                                       {kFileToken},
                                                                       ids_of("a.txt\nworst\n"),
                                                                       {kFileToken},
                                                                       ids_of("tmp\nbest\n"),
                                                                       {kFileToken, kPrefixToken},
                                                                       ids_of("It was the "),
                                                                       {kSuffixToken},
                                                                       ids_of(" of times"),
                                                                       {kMiddleToken}}));
  body.erase("input_suffix");
  EXPECT_THROW((void)InfillPrompt(Fields(body), tokens, *tokenizer), ApiError);
  const GgufReader without(DemoModel());
  EXPECT_THROW((void)FindInfillTokens(without, *MakeTokenizer(without)), ApiError);
}

// The endpoint answers what /completion answers to those ids.
TEST_F(InfillTest, IsServed) {
  ServeOptions options;
  options.engine.model_path = Path();
  options.engine.n_threads = 1;
  options.engine.context_tokens = 128;
  Service service(options);
  service.Load();
  const auto ask = [&](const std::string& path, const ApiJson& body) {
    const auto reply = std::make_shared<WaitingReply>();
    HttpRequest request;
    request.method = "POST";
    request.path = path;
    request.body = body.dump();
    service.Handle(std::move(request), reply);
    const HttpResponse response = reply->Wait();
    EXPECT_EQ(response.status, 200) << response.body;
    return ApiJson::parse(response.body);
  };
  const ApiJson settings = {{"n_predict", 12}, {"temperature", 0}};
  ApiJson infill = settings;
  infill.update({{"input_prefix", "It was the best"}, {"input_suffix", " of times"}});
  const ApiJson filled = ask("/infill", infill);
  const GgufReader gguf(Path());
  const auto tokenizer = MakeTokenizer(gguf);
  ApiJson completion = settings;
  completion["prompt"] =
      InfillPrompt(Fields(infill), FindInfillTokens(gguf, *tokenizer), *tokenizer);
  const ApiJson completed = ask("/completion", completion);
  EXPECT_EQ(filled["content"], completed["content"]);
  EXPECT_EQ(filled["tokens_evaluated"], completed["tokens_evaluated"]);
  EXPECT_FALSE(filled["content"].get<std::string>().empty());
}

}  // namespace
}  // namespace thermocline
