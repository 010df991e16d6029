#include "runtime/drafts/model_draft.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"

namespace thermocline {
namespace {

// Rows that fill a vocabulary up; more is another vocabulary.
constexpr int64_t kMostFilling = 512;
}  // namespace

void CheckSameVocabulary(OpenedModel& draft, OpenedModel& model) {
  const Tokenizer& of_draft = draft.tokenizer();
  const Tokenizer& of_model = model.tokenizer();
  const auto fail = [&](std::string expected, std::string found) {
    throw Error({.path = draft.options().model_path,
                 .what = "the draft's model has another vocabulary than the model",
                 .expected = std::move(expected),
                 .found = std::move(found),
                 .hint = "draft with a model of the same vocabulary, usually of the same family"});
  };
  const int64_t n_draft = draft.config().vocab_size;
  const int64_t n_model = model.config().vocab_size;
  if (std::abs(n_draft - n_model) > kMostFilling) {
    fail(fmt::format("{} tokens", n_model), fmt::format("{}", n_draft));
  }
  const int64_t n_named = std::min<int64_t>(of_draft.vocab_size(), of_model.vocab_size());
  for (int32_t id = 0; id < n_named; ++id) {
    const std::string expected = of_model.TokenName(id);
    const std::string found = of_draft.TokenName(id);
    if (expected == found) continue;
    fail(fmt::format("token {} '{}'", id, Printable(expected)),
         fmt::format("'{}'", Printable(found)));
  }
}

EngineOptions ModelDraft::OptionsFor(const EngineOptions& model, const std::string& draft_path) {
  EngineOptions options;
  options.n_threads = model.n_threads;
  options.pinning = model.pinning;
  options.activation_bits = model.activation_bits;
  options.model_path = draft_path;
  options.fast_tier = model.fast_tier;
  options.overcommit = model.overcommit;
  options.n_sequences = model.n_sequences;
  options.batch_tokens = model.batch_tokens;
  options.drafted_rows = model.drafted_rows;
  options.cache_type = model.cache_type;
  options.progress = model.progress;
  return options;
}

ModelDraft::ModelDraft(std::unique_ptr<Engine> engine) : engine_(std::move(engine)) {
  CHECK(!engine_->config().has_encoder());
}

bool ModelDraft::CanRead(std::span<const int32_t> ids) const {
  if (ids.empty() || static_cast<int64_t>(ids.size()) > engine_->context_tokens()) return false;
  return std::ranges::all_of(ids,
                             [n = engine_->config().vocab_size](int32_t id) { return id < n; });
}

// Returns what of the text its sequence does not have. Of the last draft stays what has become the
// text's.
std::vector<int32_t> ModelDraft::TakeUp(Text& text, std::span<const int32_t> ids) {
  KvSequences& kv = engine_->sequences();
  if (text.sequence < 0) text.sequence = kv.Add();
  const auto parts = std::ranges::mismatch(text.ids, ids.first(ids.size() - 1));
  std::vector<int32_t> path;
  if (parts.in1 == text.ids.end()) {
    int32_t at = -1;
    for (size_t i = text.ids.size(); i + 1 < ids.size(); ++i) {
      size_t next = 0;
      while (next < text.tree_ids.size() &&
             (text.tree_parents[next] != at || text.tree_ids[next] != ids[i])) {
        ++next;
      }
      if (next == text.tree_ids.size()) break;
      at = static_cast<int32_t>(next);
      path.push_back(at);
    }
  }
  text.tree_ids.clear();
  text.tree_parents.clear();
  if (!path.empty()) {
    const auto begin = static_cast<int64_t>(text.ids.size());
    engine_->KeepPath(text.sequence, begin, path);
    text.ids.assign(ids.begin(), ids.begin() + kv.length(text.sequence));
  } else {
    const int64_t n_kept = kv.KeepableLength(text.sequence, parts.in1 - text.ids.begin());
    kv.Truncate(text.sequence, n_kept);
    text.ids.resize(static_cast<size_t>(n_kept));
  }
  return {ids.begin() + std::ssize(text.ids), ids.end()};
}

bool ModelDraft::ReadLong(Running& running, size_t most) {
  std::vector<int32_t>& unread = running.unread;
  const auto batch = static_cast<size_t>(engine_->model().batch_tokens());
  while (unread.size() > most) {
    if (InterruptRequested()) return false;
    const size_t n = std::min(batch, unread.size() - 1);
    const SequenceInput input{.sequence = running.text->sequence,
                              .ids = std::span(unread).first(n),
                              .wants_logits = false};
    engine_->FeedSequences({&input, 1});
    const auto end = unread.begin() + static_cast<ptrdiff_t>(n);
    running.text->ids.insert(running.text->ids.end(), unread.begin(), end);
    unread.erase(unread.begin(), end);
  }
  return true;
}

void ModelDraft::Run(GrowthPass& pass) {
  pass.Run(*engine_, engine_->executor());
  ++n_passes_;
}

void ModelDraft::ReadTexts(std::span<Running> running) {
  GrowthPass pass;
  for (Running& text : running) pass.AddText(&text.growth, text.text->sequence, text.unread);
  Run(pass);
  for (Running& text : running) {
    std::vector<int32_t>& ids = text.text->ids;
    ids.insert(ids.end(), text.unread.begin(), text.unread.end());
  }
}

bool ModelDraft::GrowTrees(std::span<Running> running) {
  const int64_t share = engine_->model().max_sampled_rows() / std::ssize(running);
  GrowthPass pass;
  for (Running& text : running) {
    const int64_t n_past = engine_->sequences().length(text.text->sequence);
    pass.Add(&text.growth, text.text->sequence, std::ssize(text.text->ids),
             std::min(share, engine_->context_tokens() - n_past));
  }
  if (pass.inputs().empty()) return false;
  Run(pass);
  for (Running& text : running) {
    text.text->tree_ids = text.growth.read();
    text.text->tree_parents = text.growth.parents();
  }
  return true;
}

void ModelDraft::Draft(std::span<const DraftRequest> requests) {
  std::vector<Running> running;
  for (const DraftRequest& request : requests) {
    if (!CanRead(request.ids) || !request.tree->WantsPass(DraftTree::kText)) continue;
    Text& text = texts_[request.text];
    running.push_back(
        {.growth = DraftGrowth(request.tree), .text = &text, .unread = TakeUp(text, request.ids)});
  }
  if (running.empty()) return;
  const auto share =
      static_cast<size_t>(engine_->model().batch_tokens()) / std::max<size_t>(1, running.size());
  for (Running& text : running) {
    if (!ReadLong(text, std::max<size_t>(1, share))) return;
  }
  ReadTexts(running);
  while (GrowTrees(running)) {
  }
}

}  // namespace thermocline
