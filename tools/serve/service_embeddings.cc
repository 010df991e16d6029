// Of the service: /v1/embeddings.
#include <cmath>
#include <cstring>
#include <mutex>

#include "runtime/core/error.h"
#include "tools/serve/generation_run.h"
#include "tools/serve/prompt_fields.h"
#include "tools/serve/service.h"

namespace thermocline {
namespace {

std::string Base64(std::span<const unsigned char> bytes) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t group = 0;
    for (size_t j = 0; j < 3; ++j) {
      group = group << 8 | (i + j < bytes.size() ? bytes[i + j] : 0U);
    }
    for (size_t j = 0; j < 4; ++j) {
      text += i + j > bytes.size() ? '=' : kDigits[group >> (18 - 6 * j) & 63U];
    }
  }
  return text;
}

// Of unit length, as clients compare them.
std::vector<float> Normalised(std::span<const float> values) {
  double sum = 0;
  for (const float value : values) sum += static_cast<double>(value) * value;
  const double scale = sum > 0 ? 1 / std::sqrt(sum) : 0;
  std::vector<float> unit;
  for (const float value : values) unit.push_back(static_cast<float>(value * scale));
  return unit;
}

ApiJson EmbeddingJson(const std::vector<float>& values, bool base64) {
  if (!base64) return values;
  std::vector<unsigned char> bytes(values.size() * sizeof(float));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return Base64(bytes);
}

// Collects what the prompts of one request become.
class EmbeddingRun : public std::enable_shared_from_this<EmbeddingRun> {
 public:
  EmbeddingRun(std::vector<std::vector<int32_t>> prompts, bool base64, std::string model_name)
      : prompts_(std::move(prompts)),
        base64_(base64),
        model_name_(std::move(model_name)),
        found_(prompts_.size()) {}

  // `answer` is called once, with what to send.
  void Start(std::shared_ptr<LoadedModel> model, Pooling pooling,
             const std::shared_ptr<HttpReply>& reply, std::function<void(HttpResponse)> answer) {
    model_ = std::move(model);
    answer_ = std::move(answer);
    reply->OnGone([weak = weak_from_this()] {
      if (const auto run = weak.lock()) run->CancelAll();
    });
    try {
      for (size_t i = 0; i < prompts_.size(); ++i) {
        Request request = {.kind = RequestKind::kEmbed, .prompt = prompts_[i], .sampler = {}};
        request.pooling = pooling;
        const RequestId id = model_->scheduler.Submit(
            std::move(request), std::make_shared<Listener>(shared_from_this(), i));
        const std::lock_guard lock(mutex_);
        ids_.push_back(id);
      }
    } catch (const PromptTooLong& error) {
      Refuse(ApiError(ApiErrorKind::kTooLong,
                      "an input exceeds the available context size: shorten it",
                      {{"n_prompt_tokens", error.n_prompt()}, {"n_ctx", error.n_context()}}));
    } catch (const QueueFull&) {
      Refuse(ApiError(ApiErrorKind::kTooMany, "too many requests wait already"));
    } catch (const Error& error) {
      Refuse(ApiError(ApiErrorKind::kInvalidRequest, error.what()));
    }
  }

 private:
  class Listener : public RequestListener {
   public:
    Listener(std::shared_ptr<EmbeddingRun> run, size_t input)
        : run_(std::move(run)), input_(input) {}
    bool OnToken(const TokenEvent& /*event*/) override { return false; }
    void OnEmbedding(std::span<const float> embedding) override {
      run_->found_[input_] = Normalised(embedding);
    }
    void OnEnd(int32_t /*index*/, EndReason reason, const RunStats& stats) override {
      run_->OnEnd(input_, reason, stats);
    }

   private:
    std::shared_ptr<EmbeddingRun> run_;
    size_t input_;
  };

  // What the caller is told while some may run: once.
  void Refuse(const ApiError& error) {
    CancelAll();
    SendOnce(ErrorResponseOf(error));
  }
  void CancelAll() {
    std::vector<RequestId> ids;
    {
      const std::lock_guard lock(mutex_);
      ids = ids_;
    }
    for (const RequestId id : ids) model_->scheduler.Cancel(id);
  }
  void SendOnce(HttpResponse response) {
    std::function<void(HttpResponse)> answer;
    {
      const std::lock_guard lock(mutex_);
      answer.swap(answer_);
    }
    if (answer) answer(std::move(response));
  }
  void OnEnd(size_t input, EndReason reason, const RunStats& stats) {
    n_tokens_ += static_cast<int64_t>(prompts_[input].size());
    if (reason == EndReason::kFailed) {
      SendOnce(ErrorResponseOf(FailureOf(stats)));
    } else if (found_[input].empty()) {
      SendOnce(ErrorResponseOf(ApiError(ApiErrorKind::kUnavailable, "the request was cancelled")));
    }
    if (++n_ended_ < prompts_.size()) return;
    ApiJson data = ApiJson::array();
    for (size_t i = 0; i < found_.size(); ++i) {
      data.push_back({{"object", "embedding"},
                      {"index", i},
                      {"embedding", EmbeddingJson(found_[i], base64_)}});
    }
    SendOnce(
        JsonResponse({{"object", "list"},
                      {"model", model_name_},
                      {"data", std::move(data)},
                      {"usage", {{"prompt_tokens", n_tokens_}, {"total_tokens", n_tokens_}}}}));
  }

  const std::vector<std::vector<int32_t>> prompts_;
  const bool base64_;
  const std::string model_name_;
  std::shared_ptr<LoadedModel> model_;
  // ---- on the scheduler's thread ----
  std::vector<std::vector<float>> found_;
  size_t n_ended_ = 0;
  int64_t n_tokens_ = 0;

  std::mutex mutex_;  // guards what follows
  std::function<void(HttpResponse)> answer_;
  std::vector<RequestId> ids_;
};

}  // namespace

void Service::Embeddings(const HttpRequest& request, const Reply& reply) {
  if (draining_) throw ApiError(ApiErrorKind::kUnavailable, "the server is stopping");
  const ServedModel& model = served();
  const ApiJson body = ParseBody(request.body);
  const Fields fields(body);
  const ApiJson* input = fields.Find("input");
  if (input == nullptr) input = fields.Find("content");
  if (input == nullptr) FailField("input", "a text, token ids, or an array of them", nullptr);
  auto prompts = ReadPrompts(*input, "input", model.host.tokenizer());
  const std::string format = fields.Text("encoding_format").value_or("float");
  if (format != "float" && format != "base64") {
    FailField("encoding_format", "'float' or 'base64'", fields.Find("encoding_format"));
  }
  const std::string pooling = fields.Text("pooling").value_or("mean");
  if (pooling != "mean" && pooling != "last") {
    FailField("pooling", "'mean' or 'last'", fields.Find("pooling"));
  }
  const auto run =
      std::make_shared<EmbeddingRun>(std::move(prompts), format == "base64", ModelName());
  run->Start(model_->host.Wake(), pooling == "last" ? Pooling::kLast : Pooling::kMean, reply,
             [this, headers = access_.Headers(request), reply](HttpResponse response) {
               metrics_.AddAnswer(response.status);
               response.headers = headers;
               reply->Send(std::move(response));
             });
}

}  // namespace thermocline
