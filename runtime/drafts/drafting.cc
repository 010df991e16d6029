#include "runtime/drafts/drafting.h"

#include <algorithm>
#include <utility>

#include "runtime/core/error.h"
#include "runtime/drafts/auto_draft.h"
#include "runtime/speculate/ngram_draft.h"

namespace thermocline {
namespace {

std::unique_ptr<DraftSource> MakeModelDraft(const DraftOptions& options, OpenedModel& model) {
  auto draft = std::make_unique<OpenedModel>(
      ModelDraft::OptionsFor(model.options(), model.context_tokens(), options.model_path));
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

Drafting::Drafting(const DraftOptions& options, OpenedModel& model) {
  CHECK(options.kind != DraftKind::kNone);
  const bool is_auto = options.kind == DraftKind::kAuto;
  const bool wants_model =
      (is_auto || options.kind == DraftKind::kModel) && !options.model_path.empty();
  if (is_auto || options.kind == DraftKind::kNgram) {
    sources_.push_back(std::make_unique<NgramDraft>());
  }
  if (options.kind == DraftKind::kHot || (is_auto && options.hot)) {
    auto hot = std::make_unique<HotDraft>();
    hot_ = hot.get();
    sources_.push_back(std::move(hot));
  }
  if (wants_model) sources_.push_back(MakeModelDraft(options, model));
  CHECK(!sources_.empty());
  DraftSource* source = sources_.front().get();
  if (sources_.size() > 1) {
    std::vector<DraftSource*> all;
    for (const auto& each : sources_) all.push_back(each.get());
    chosen_ = std::make_unique<AutoDraft>(std::move(all));
    source = chosen_.get();
  }
  SpeculateOptions speculate = options.speculate;
  speculate.max_rows = DraftedRows(options, model.options().n_sequences);
  speculator_ = std::make_unique<Speculator>(*source, speculate, model.config().vocab_size);
}

void Drafting::Use(Engine& engine) {
  if (hot_ != nullptr) hot_->Use(engine);
}

}  // namespace thermocline
