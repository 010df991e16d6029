#include "runtime/schedule/text_run.h"

#include <algorithm>
#include <cmath>

#include "runtime/core/error.h"
#include "runtime/schedule/ms_since.h"

namespace thermocline {
namespace {

SamplerOptions OptionsOf(const Request& request, int32_t index) {
  SamplerOptions options = request.sampler;
  options.seed += static_cast<uint64_t>(index);
  return options;
}

}  // namespace

TokenProbs ProbsOf(std::span<const float> logits, int32_t id, int64_t n) {
  double most = -HUGE_VAL;
  for (const float logit : logits) {
    if (std::isfinite(logit)) most = std::max(most, static_cast<double>(logit));
  }
  double sum = 0;
  std::vector<int32_t> order;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (!std::isfinite(logits[i])) continue;
    sum += std::exp(logits[i] - most);
    order.push_back(static_cast<int32_t>(i));
  }
  const double log_sum = most + std::log(sum);
  const auto logprob = [&](int32_t token) {
    return static_cast<float>(std::min(0.0, logits[static_cast<size_t>(token)] - log_sum));
  };
  const size_t n_told = std::min(static_cast<size_t>(n), order.size());
  std::partial_sort(order.begin(), order.begin() + static_cast<ptrdiff_t>(n_told), order.end(),
                    [&](int32_t a, int32_t b) {
                      const float x = logits[static_cast<size_t>(a)];
                      const float y = logits[static_cast<size_t>(b)];
                      return x != y ? x > y : a < b;
                    });
  TokenProbs probs{.logprob = logprob(id), .likeliest = {}};
  for (size_t i = 0; i < n_told; ++i) probs.likeliest.push_back({order[i], logprob(order[i])});
  return probs;
}

TextRun::TextRun(std::shared_ptr<const SharedRequest> shared, int32_t index, int64_t order,
                 const Tokenizer& tokenizer)
    : shared_(std::move(shared)),
      index_(index),
      order_(order),
      tokenizer_(tokenizer),
      sampler_(OptionsOf(shared_->request, index)),
      mask_(shared_->request.mask ? shared_->request.mask->Clone() : nullptr),
      ids_(shared_->request.prompt),
      n_fed_as_prompt_(n_ids()) {
  for (const int32_t id : ids_) sampler_.Accept(id);
  stats_.prompt_tokens = n_ids();
}

void TextRun::Begin(int32_t slot, int64_t n_cached) {
  const bool first = stats_.slot < 0 && stats_.n_preempted == 0;
  stats_.slot = slot;
  if (!first) return;
  stats_.cached_tokens = n_cached;
  stats_.queue_ms = MsSince(submitted_);
  began_ = Clock::now();
  if (index_ == 0) shared_->listener->OnPromptProgress(stats_);
}

void TextRun::HaveFed(int64_t n_fed) {
  if (has_written()) return;
  const int64_t n_read = std::min(n_fed, stats_.prompt_tokens) - stats_.cached_tokens;
  if (n_read <= stats_.processed_tokens) return;
  stats_.processed_tokens = n_read;
  stats_.prompt_ms = MsSince(began_);
  if (index_ == 0) shared_->listener->OnPromptProgress(stats_);
}

void TextRun::Preempt() {
  stats_.slot = -1;
  ++stats_.n_preempted;
  embedding_.clear();
}

void TextRun::Shift(int64_t n_keep, int64_t n_dropped) {
  const auto begin = ids_.begin() + n_keep;
  ids_.erase(begin, begin + n_dropped);
  n_fed_as_prompt_ = n_ids();  // what is left is fed again as a prompt of these tokens
  ++stats_.n_shifted;
}

int64_t TextRun::n_deciding() const {
  if (request().n_probs >= 0 && !request().after_sampling) return 0;
  // Some more, so that a mask may forbid some.
  constexpr int64_t kForMask = 32;
  const int64_t n = sampler_.n_deciding();
  return n > 0 && mask_ != nullptr ? n + kForMask : n;
}

SpeculatedText TextRun::ForDraft(int32_t sequence, int64_t most) const {
  const int64_t left = request().max_tokens - stats_.generated_tokens - 1;
  return {.text = stats_.slot,
          .ids = ids_,
          .sequence = sequence,
          .sampler = &sampler_,
          .mask = mask_.get(),
          .most = request().max_tokens < 0 ? most : std::min(most, left),
          .draws = request().draws_drafts,
          .ends_text = [this](int32_t id) { return Ends(id); }};
}

void TextRun::CountDraft(int64_t n_drafted, int64_t n_accepted) {
  stats_.n_drafted += n_drafted;
  stats_.n_draft_accepted += n_accepted;
}

bool TextRun::Ends(int32_t id) const {
  return tokenizer_.EndsText(id) || std::ranges::find(request().ends, id) != request().ends.end();
}

TextRun::Written TextRun::Write(const NextLogits& logits, const Proposal* proposal) {
  const std::optional<int32_t> chosen = sampler_.SampleNext(logits, mask_.get(), proposal);
  if (!chosen) return {.step = Step::kNeedsAll};
  const int32_t id = *chosen;
  sampler_.Accept(id);
  if (mask_ != nullptr) mask_->Accept(id);
  if (!has_written()) {
    first_token_ = Clock::now();
    stats_.prompt_ms = MsSince(began_);
  }
  ++stats_.generated_tokens;
  stats_.decode_ms = MsSince(first_token_);
  const bool ends = Ends(id);
  if (!ends) ids_.push_back(id);
  const bool goes_on = Tell(id, ends, logits.all);
  if (ends) return {Step::kEnded, EndReason::kEndOfText, id};
  if (!goes_on) return {Step::kEnded, EndReason::kStopped, id};
  if (request().max_tokens >= 0 && stats_.generated_tokens >= request().max_tokens) {
    return {Step::kEnded, EndReason::kTokenLimit, id};
  }
  return {.id = id};
}

bool TextRun::Tell(int32_t id, bool ends, std::span<const float> logits) {
  TokenProbs probs;
  const int64_t n = request().n_probs;
  if (n >= 0 && !request().after_sampling) {
    probs = ProbsOf(logits, id, n);
  } else if (n >= 0) {
    probs.logprob = static_cast<float>(std::log(sampler_.LastChanceOf(id)));
    for (const TokenChance& chance : sampler_.LastChances(n)) {
      probs.likeliest.push_back({chance.id, static_cast<float>(std::log(chance.probability))});
    }
  }
  return shared_->listener->OnToken({.index = index_,
                                     .id = id,
                                     .ends_text = ends,
                                     .logprob = probs.logprob,
                                     .likeliest = probs.likeliest,
                                     .stats = stats_});
}

void TextRun::AddHidden(std::span<const float> hidden, size_t width) {
  embedding_.resize(width);
  if (request().pooling == Pooling::kLast) {
    std::ranges::copy(hidden.last(width), embedding_.begin());
    return;
  }
  for (size_t i = 0; i < hidden.size(); ++i) embedding_[i % width] += hidden[i];
}

void TextRun::TellEmbedding() {
  if (request().pooling == Pooling::kMean) {
    for (float& value : embedding_) value /= static_cast<float>(stats_.prompt_tokens);
  }
  shared_->listener->OnEmbedding(embedding_);
}

void TextRun::End(EndReason reason, const std::string& error) {
  stats_.error = error;
  shared_->listener->OnEnd(index_, reason, stats_);
}

}  // namespace thermocline
