#include "runtime/drafts/drafting.h"

#include <algorithm>
#include <utility>

#include "runtime/core/error.h"
#include "runtime/drafts/auto_draft.h"
#include "runtime/drafts/hot_draft.h"
#include "runtime/speculate/extended_draft.h"
#include "runtime/speculate/ngram_draft.h"

namespace thermocline {
namespace {

std::unique_ptr<ModelDraft> MakeModelDraft(const DraftOptions& options, OpenedModel& model) {
  EngineOptions of_draft = ModelDraft::OptionsFor(model.options(), options.model_path);
  const int64_t longest = OpenedModel(of_draft).config().max_seq_len;
  // Texts that are longer than what it was made for are not drafted for.
  of_draft.context_tokens = std::min(model.context_tokens(), longest);
  auto draft = std::make_unique<OpenedModel>(of_draft);
  if (draft->config().has_encoder() || model.config().has_encoder()) {
    throw Error({.path = options.model_path,
                 .what = "a model with an encoder cannot draft, nor be drafted for by a model"});
  }
  CheckSameVocabulary(*draft, model);
  return std::make_unique<ModelDraft>(std::make_unique<Engine>(std::move(draft)));
}

}  // namespace

int64_t DraftedRows(const DraftOptions& options, int64_t n_texts) {
  if (options.kind == DraftKind::kNone) return 0;
  const int64_t most = std::max(options.speculate.max_rows, options.speculate.max_tokens);
  return std::min(most, n_texts * options.speculate.max_tokens);
}

Drafting::Drafting(const DraftOptions& options, OpenedModel& model)
    : hot_(options.kind == DraftKind::kHot || (options.kind == DraftKind::kAuto && options.hot)),
      extend_(options.extend),
      options_(options.speculate),
      vocab_size_(model.config().vocab_size) {
  CHECK(options.kind != DraftKind::kNone);
  options_.max_rows = DraftedRows(options, model.options().n_sequences);
  const bool is_auto = options.kind == DraftKind::kAuto;
  const bool wants_model =
      (is_auto || options.kind == DraftKind::kModel) && !options.model_path.empty();
  if (is_auto || options.kind == DraftKind::kNgram) {
    sources_.push_back({std::make_unique<NgramDraft>(), /*can_be_extended=*/false});
  }
  if (!wants_model) return;
  auto draft = MakeModelDraft(options, model);
  draft_model_ = &draft->engine().model();
  sources_.push_back({std::move(draft)});
}

void Drafting::AddSource(std::unique_ptr<DraftSource> source) {
  CHECK(speculator_ == nullptr);
  sources_.insert(sources_.begin(), Made{std::move(source)});
}

void Drafting::Use(Engine& engine) {
  if (hot_) AddSource(std::make_unique<HotDraft>(engine));
}

DraftSource& Drafting::Source(bool extend) {
  CHECK(!sources_.empty());
  Chosen& chosen = chosen_[extend ? 1 : 0];
  if (chosen.source != nullptr) return *chosen.source;
  std::vector<DraftSource*> all;
  for (const auto& each : sources_) {
    all.push_back(each.source.get());
    if (!extend || !each.can_be_extended) continue;
    chosen.extended.push_back(std::make_unique<ExtendedDraft>(each.source.get()));
    all.back() = chosen.extended.back().get();
  }
  chosen.source = all.front();
  if (all.size() > 1) {
    chosen.among = std::make_unique<AutoDraft>(std::move(all));
    chosen.source = chosen.among.get();
  }
  return *chosen.source;
}

Speculator& Drafting::speculator() {
  if (speculator_ == nullptr) speculator_ = MakeSpeculator(options_.max_children, extend_);
  return *speculator_;
}

std::unique_ptr<Speculator> Drafting::MakeSpeculator(int64_t max_children, bool extend) {
  SpeculateOptions options = options_;
  options.max_children = max_children;
  return std::make_unique<Speculator>(Source(extend), options, vocab_size_);
}

}  // namespace thermocline
