// One request while it is generated: takes tokens from the scheduler, makes text of them, and hands
// it to the client.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "runtime/text/tokenizer.h"
#include "tools/http/http_server.h"
#include "tools/serve/answer.h"
#include "tools/serve/metrics.h"
#include "tools/serve/model_host.h"
#include "tools/serve/stop_strings.h"

namespace thermocline {

// What became of a request that failed. One that was never begun found the queue full after all:
// others came between the look at it and its turn.
ApiError FailureOf(const RunStats& stats);

class GenerationRun : public std::enable_shared_from_this<GenerationRun> {
 public:
  struct Parts {
    std::shared_ptr<const GenerationSpec> spec;
    AnswerContext context;
    std::shared_ptr<HttpReply> reply;
    std::vector<std::pair<std::string, std::string>> headers;  // of the answer
    std::shared_ptr<LoadedModel> model;
    Metrics* metrics = nullptr;
    bool context_shift = false;
  };

  explicit GenerationRun(Parts parts);
  // Hands all prompts to the scheduler. The answer goes to the reply by itself, later. Throws
  // ApiError where it is refused; then nothing is running.
  void Start();

 private:
  class Listener;
  // A continuation, and what its text goes through.
  struct Text {
    Choice choice;
    StreamDecoder decoder;
    StopStrings stop;
    std::optional<ReplyParser> reader;
    std::optional<std::chrono::steady_clock::time_point> last_token;
  };

  // ---- on the scheduler's thread ----
  void OnPromptProgress(size_t prompt, const RunStats& stats);
  bool OnToken(size_t prompt, const TokenEvent& event);
  void OnEnd(size_t prompt, int32_t index, EndReason reason, const RunStats& stats);

  Request RequestFor(size_t prompt) const;
  Text& TextOf(size_t prompt, int32_t index);
  // What new text brings: to the choice, and as a delta.
  ReplyDelta Take(Text& text, std::string_view piece, bool is_last);
  void Measure(Text& text);
  void Emit(std::string events);
  void Finish();
  void SendWhenOpen(HttpResponse response);
  void WhenOpen(std::function<void()> act);
  void Fail(const ApiError& error);
  void CancelAll();
  // From here on what is written goes out.
  void Open();

  Parts parts_;
  std::unique_ptr<Answer> answer_;
  std::vector<Text> texts_;
  size_t n_ended_ = 0;
  bool failed_ = false;
  const std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();

  std::mutex mutex_;  // guards what follows
  bool open_ = false;
  std::string early_;  // events from before Open
  std::function<void()> early_end_;
  bool gone_ = false;
  std::vector<RequestId> ids_;
};

}  // namespace thermocline
