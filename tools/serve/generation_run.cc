#include "tools/serve/generation_run.h"

#include <fmt/format.h>

#include <utility>

#include "runtime/core/error.h"

namespace thermocline {

ApiError FailureOf(const RunStats& stats) {
  return {stats.prompt_tokens == 0 ? ApiErrorKind::kTooMany : ApiErrorKind::kServer, stats.error};
}

// What the scheduler calls for one prompt.
class GenerationRun::Listener : public RequestListener {
 public:
  Listener(std::shared_ptr<GenerationRun> run, size_t prompt)
      : run_(std::move(run)), prompt_(prompt) {}
  void OnPromptProgress(const RunStats& stats) override { run_->OnPromptProgress(prompt_, stats); }
  bool OnToken(const TokenEvent& event) override { return run_->OnToken(prompt_, event); }
  void OnEnd(int32_t index, EndReason reason, const RunStats& stats) override {
    run_->OnEnd(prompt_, index, reason, stats);
  }

 private:
  std::shared_ptr<GenerationRun> run_;
  size_t prompt_;
};

GenerationRun::GenerationRun(Parts parts)
    : parts_(std::move(parts)), answer_(MakeAnswer(parts_.context)) {
  const GenerationSpec& spec = *parts_.spec;
  for (size_t prompt = 0; prompt < spec.prompts.size(); ++prompt) {
    for (int32_t i = 0; i < spec.n; ++i) {
      Choice choice;
      choice.index = static_cast<int32_t>(prompt) * spec.n + i;
      choice.prompt = prompt;
      texts_.push_back({.choice = std::move(choice),
                        .decoder = StreamDecoder(*parts_.context.tokenizer, false),
                        .stop = StopStrings(spec.stop),
                        .reader = {},
                        .last_token = {}});
      if (spec.reading) texts_.back().reader.emplace(spec.reading->format, spec.reading->options);
    }
  }
}

Request GenerationRun::RequestFor(size_t prompt) const {
  const GenerationSpec& spec = *parts_.spec;
  Request request;
  request.prompt = spec.prompts[prompt];
  request.sampler = spec.sampler;
  request.draws_drafts = !spec.has_seed;
  request.n = spec.n;
  request.max_tokens = spec.max_tokens;
  request.ends = spec.ends;
  request.mask = spec.mask;
  request.n_probs = spec.wants_probs ? spec.n_probs : -1;
  request.after_sampling = spec.after_sampling;
  request.use_cache = spec.cache_prompt;
  request.slot = spec.slot;
  request.context_shift = parts_.context_shift;
  request.n_keep = spec.n_keep;
  return request;
}

void GenerationRun::Start() {
  const auto self = shared_from_this();
  parts_.reply->OnGone([weak = weak_from_this()] {
    if (const auto run = weak.lock()) run->CancelAll();
  });
  try {
    for (size_t prompt = 0; prompt < parts_.spec->prompts.size(); ++prompt) {
      const RequestId id = parts_.model->scheduler.Submit(RequestFor(prompt),
                                                          std::make_shared<Listener>(self, prompt));
      bool cancel = false;
      {
        const std::lock_guard lock(mutex_);
        ids_.push_back(id);
        cancel = gone_;
      }
      if (cancel) parts_.model->scheduler.Cancel(id);
    }
  } catch (const PromptTooLong& error) {
    CancelAll();
    throw ApiError(ApiErrorKind::kTooLong,
                   fmt::format("the prompt ({} tokens) exceeds the available context size ({} "
                               "tokens): shorten it",
                               error.n_prompt(), error.n_context()),
                   {{"n_prompt_tokens", error.n_prompt()}, {"n_ctx", error.n_context()}});
  } catch (const QueueFull&) {
    CancelAll();
    throw ApiError(ApiErrorKind::kTooMany, "too many requests wait already: try again later");
  } catch (...) {
    CancelAll();
    throw;
  }
  Open();
}

void GenerationRun::Open() {
  std::function<void()> end;
  {
    const std::lock_guard lock(mutex_);
    if (parts_.spec->stream) {
      parts_.reply->Begin({.content_type = "text/event-stream",
                           .headers = parts_.headers,
                           .body = std::exchange(early_, {}),
                           .heartbeat = ":\n\n"});  // a comment, which clients pass over
    }
    open_ = true;
    end = std::exchange(early_end_, nullptr);
  }
  if (end) end();
}

void GenerationRun::CancelAll() {
  std::vector<RequestId> ids;
  {
    const std::lock_guard lock(mutex_);
    gone_ = true;
    ids = ids_;
  }
  for (const RequestId id : ids) parts_.model->scheduler.Cancel(id);
}

GenerationRun::Text& GenerationRun::TextOf(size_t prompt, int32_t index) {
  return texts_[prompt * static_cast<size_t>(parts_.spec->n) + static_cast<size_t>(index)];
}

void GenerationRun::Emit(std::string events) {
  if (events.empty() || !parts_.spec->stream) return;
  const std::lock_guard lock(mutex_);
  if (open_) {
    parts_.reply->Write(std::move(events));
  } else {
    early_ += events;
  }
}

void GenerationRun::OnPromptProgress(size_t prompt, const RunStats& stats) {
  if (!parts_.spec->return_progress || !parts_.spec->stream) return;
  Choice& choice = TextOf(prompt, 0).choice;
  choice.stats = stats;
  Emit(answer_->OnProgress(choice));
}

ReplyDelta GenerationRun::Take(Text& text, std::string_view piece, bool is_last) {
  Choice& choice = text.choice;
  choice.text += piece;
  ReplyDelta delta;
  if (!text.reader) {
    delta.content = piece;
  } else {
    delta = text.reader->Push(piece);
    if (is_last) {
      ReplyDelta rest = text.reader->Finish();
      delta.content += rest.content;
      delta.reasoning += rest.reasoning;
      for (ToolCallDelta& call : rest.calls) delta.calls.push_back(std::move(call));
    }
  }
  choice.Add(delta);
  return delta;
}

void GenerationRun::Measure(Text& text) {
  const auto now = std::chrono::steady_clock::now();
  const auto seconds = [&](std::chrono::steady_clock::time_point from) {
    return std::chrono::duration<double>(now - from).count();
  };
  if (text.last_token) {
    parts_.metrics->AddInterToken(seconds(*text.last_token));
  } else {
    parts_.metrics->AddFirstToken(seconds(started_));
  }
  text.last_token = now;
}

bool GenerationRun::OnToken(size_t prompt, const TokenEvent& event) {
  if (failed_) return false;
  Text& text = TextOf(prompt, event.index);
  Measure(text);
  Choice& choice = text.choice;
  choice.stats = event.stats;
  if (parts_.spec->wants_probs) {
    choice.records.push_back({.id = event.id,
                              .logprob = event.logprob,
                              .likeliest = {event.likeliest.begin(), event.likeliest.end()}});
  }
  if (event.ends_text) return false;
  choice.ids.push_back(event.id);
  std::string written = text.decoder.Push(event.id);
  if (const auto& reading = parts_.spec->reading) {
    const auto spoken = reading->spoken.find(event.id);
    if (spoken != reading->spoken.end()) written += spoken->second;
  }
  const std::string piece = text.stop.Push(written);
  const ReplyDelta delta = Take(text, piece, false);
  Emit(answer_->OnToken(choice, delta));
  return !text.stop.found();
}

void GenerationRun::OnEnd(size_t prompt, int32_t index, EndReason reason, const RunStats& stats) {
  Text& text = TextOf(prompt, index);
  Choice& choice = text.choice;
  choice.stats = stats;
  ++n_ended_;
  if (reason == EndReason::kFailed) {
    Fail(FailureOf(stats));
  } else if (reason == EndReason::kCancelled) {
    Fail(ApiError(ApiErrorKind::kUnavailable, "the request was cancelled"));
  }
  if (!failed_) {
    choice.context_full = reason == EndReason::kContextFull;
    choice.stop = reason == EndReason::kEndOfText ? StopKind::kEndOfText : StopKind::kLimit;
    std::string rest;
    if (!text.stop.found()) {
      rest = text.stop.Push(text.decoder.Finish());
      if (!text.stop.found()) rest += text.stop.Finish();
    }
    if (text.stop.found()) {
      choice.stop = StopKind::kWord;
      choice.stopping_word = text.stop.word();
    }
    const ReplyDelta delta = Take(text, rest, true);
    if (parts_.spec->stream) Emit(answer_->OnEnd(choice, delta));
  }
  if (n_ended_ == texts_.size()) Finish();
}

void GenerationRun::Fail(const ApiError& error) {
  if (failed_) return;
  failed_ = true;
  if (parts_.spec->stream) {
    Emit(ErrorEvent(parts_.spec->api, error));
    WhenOpen([reply = parts_.reply] { reply->End(); });
  } else {
    SendWhenOpen(ErrorResponseOf(error));
  }
  // The scheduler may not be called from here; continuations of the other prompts end by
  // themselves, and nobody hears of them.
}

void GenerationRun::Finish() {
  if (failed_) return;
  std::vector<Choice> choices;
  for (Text& text : texts_) choices.push_back(std::move(text.choice));
  if (!parts_.spec->stream) return SendWhenOpen(JsonResponse(answer_->Whole(choices)));
  parts_.metrics->AddAnswer(200);
  Emit(answer_->OnAllEnded(choices));
  WhenOpen([reply = parts_.reply] { reply->End(); });
}

void GenerationRun::SendWhenOpen(HttpResponse response) {
  response.headers = parts_.headers;
  parts_.metrics->AddAnswer(response.status);
  WhenOpen([reply = parts_.reply, response = std::move(response)] { reply->Send(response); });
}

void GenerationRun::WhenOpen(std::function<void()> act) {
  {
    const std::lock_guard lock(mutex_);
    if (!open_) {
      early_end_ = std::move(act);
      return;
    }
  }
  act();
}

}  // namespace thermocline
