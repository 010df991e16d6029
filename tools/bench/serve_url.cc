#include "tools/bench/serve_url.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>

#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"

namespace thermocline {
namespace {

using Clock = std::chrono::steady_clock;
using UrlJson = nlohmann::json;

double MsAfter(Clock::time_point from) {
  return std::chrono::duration<double, std::milli>(Clock::now() - from).count();
}

HttpQuestion QuestionOf(const std::string& path, const std::string& body,
                        const std::string& api_key) {
  HttpQuestion question{.path = path, .body = body};
  if (!api_key.empty()) question.headers.emplace_back("Authorization", "Bearer " + api_key);
  return question;
}

// The first choice of an event, or null.
const UrlJson* ChoiceOf(const UrlJson& event) {
  const auto choices = event.find("choices");
  const bool has_one = choices != event.end() && choices->is_array() && !choices->empty();
  return has_one ? &choices->front() : nullptr;
}

// One request, from its arrival to its end.
class UrlText {
 public:
  UrlText(Clock::time_point start, Clock::time_point arrival) : start_(start), arrival_(arrival) {}

  void Take(const std::string& data) {
    if (data == "[DONE]") return;
    const UrlJson event = UrlJson::parse(data, nullptr, false);
    if (!event.is_object()) return;
    if (const UrlJson* const choice = ChoiceOf(event)) {
      if (choice->contains("text") && !choice->value("text", UrlJson()).empty()) TakeToken();
      ended_ = ended_ || !choice->value("finish_reason", UrlJson()).is_null();
    }
    const UrlJson usage = event.value("usage", UrlJson());
    if (!usage.is_object()) return;
    const UrlJson n_written = usage.value("completion_tokens", UrlJson());
    if (n_written.is_number_integer()) text_.stats.generated_tokens = n_written.get<int64_t>();
  }
  void End(int status, const std::string& error) {
    text_.last_ms = MsAfter(start_);
    const bool served = status == 200 && ended_ && text_.ttft_ms > 0;
    text_.reason = served ? EndReason::kTokenLimit : EndReason::kFailed;
    text_.stats.error = error;
  }
  const ServedText& text() const { return text_; }

 private:
  void TakeToken() {
    const auto now = Clock::now();
    if (text_.ttft_ms == 0) {
      text_.ttft_ms = MsAfter(arrival_);
    } else {
      text_.gaps_ms.push_back(std::chrono::duration<double, std::milli>(now - last_).count());
    }
    last_ = now;
    ++text_.stats.generated_tokens;  // until the server says how many there were
  }

  Clock::time_point start_;
  Clock::time_point arrival_;
  Clock::time_point last_;
  bool ended_ = false;
  ServedText text_;
};

}  // namespace

UrlModel AskForModel(const HttpUrl& url, const std::string& api_key) {
  std::string body;
  const int status =
      AskHttp(url, QuestionOf("/v1/models", "", api_key), [&](std::string_view piece) {
        body += piece;
        return body.size() < (size_t{1} << 20);
      });
  const UrlJson models = UrlJson::parse(body, nullptr, false);
  try {
    const UrlJson& model = models.at("data").at(0);
    return {model.at("id").get<std::string>(), model.at("meta").at("n_vocab").get<int64_t>()};
  } catch (const UrlJson::exception&) {
    throw Error({.path = url.HostHeader(),
                 .what = "/v1/models",
                 .expected = "a model with \"meta\": {\"n_vocab\": ...}",
                 .found = fmt::format("status {}: {}", status, Printable(body.substr(0, 200)))});
  }
}

ServeResult ReplayUrl(const HttpUrl& url, const std::string& api_key, const UrlModel& model,
                      const std::vector<ServedRequest>& trace, const ServeBounds& bounds,
                      const ProgressFn& progress) {
  const std::vector<std::vector<int32_t>> prompts = MakeServePrompts(trace, model.vocab_size);
  std::vector<std::unique_ptr<UrlText>> texts;
  std::vector<std::thread> threads;
  std::atomic<size_t> n_ended = 0;
  std::atomic<bool> stopped = false;
  const auto start = Clock::now();
  const auto join = [&] {
    for (std::thread& thread : threads) thread.join();
    threads.clear();
  };
  const auto wait = [&](const std::function<bool()>& until) {
    while (!until()) {
      ThrowIfInterrupted();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      Report(progress, "serving (requests)", n_ended, trace.size());
    }
  };
  try {
    for (size_t i = 0; i < trace.size(); ++i) {
      const auto arrival =
          start + std::chrono::microseconds(static_cast<int64_t>(trace[i].arrival_ms * 1000));
      wait([&] { return Clock::now() >= arrival; });
      const UrlJson body = {{"model", model.name},
                            {"prompt", prompts[i]},
                            {"max_tokens", trace[i].max_tokens},
                            {"temperature", 0},
                            {"ignore_eos", true},
                            {"stream", true},
                            {"stream_options", {{"include_usage", true}}}};
      texts.push_back(std::make_unique<UrlText>(start, arrival));
      threads.emplace_back([&, text = texts.back().get(),
                            question = QuestionOf("/v1/completions", body.dump(), api_key)] {
        EventReader events;
        int status = 0;
        std::string error;
        try {
          status = AskHttp(url, question, [&](std::string_view piece) {
            for (const std::string& data : events.Push(piece)) text->Take(data);
            return !stopped;
          });
        } catch (const Error& failure) {
          error = failure.what();
        }
        text->End(status, error);
        ++n_ended;
      });
    }
    wait([&] { return n_ended == trace.size(); });
  } catch (...) {
    stopped = true;
    join();
    throw;
  }
  join();
  ServeResult result;
  result.n_slots = 0;
  for (const auto& text : texts) result.texts.push_back(text->text());
  SummariseServe(bounds, &result);
  return result;
}

}  // namespace thermocline
