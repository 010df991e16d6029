// A listener that keeps what it is told.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "runtime/schedule/scheduler.h"

namespace thermocline {

class Collector final : public RequestListener {
 public:
  struct Text {
    std::vector<int32_t> ids;
    std::vector<float> logprobs;
    std::vector<std::vector<TokenProb>> likeliest;
    bool ended = false;
    EndReason reason = EndReason::kFailed;
    RunStats stats;
  };

  void OnPromptProgress(const RunStats& stats) override { progress.push_back(stats); }
  bool OnToken(const TokenEvent& event) override {
    Text& text = texts[event.index];
    text.ids.push_back(event.id);
    text.logprobs.push_back(event.logprob);
    text.likeliest.emplace_back(event.likeliest.begin(), event.likeliest.end());
    return static_cast<int64_t>(text.ids.size()) != stops_after;
  }
  void OnEmbedding(std::span<const float> values) override {
    embedding.assign(values.begin(), values.end());
  }
  void OnEnd(int32_t index, EndReason reason, const RunStats& stats) override {
    texts[index].ended = true;
    texts[index].reason = reason;
    texts[index].stats = stats;
  }

  int64_t stops_after = -1;  // tokens
  std::vector<RunStats> progress;
  std::map<int32_t, Text> texts;
  std::vector<float> embedding;
};

}  // namespace thermocline
