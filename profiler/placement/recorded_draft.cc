#include "profiler/placement/recorded_draft.h"

#include <algorithm>

#include "runtime/core/error.h"

namespace thermocline {

RecordedTexts::RecordedTexts(const DraftChains& chains) {
  CHECK(!chains.empty());
  const int64_t n_written = chains.n_positions() + chains.depth;
  if (chains.has_ids()) {
    ids_ = chains.ids;
    n_prompt_ = chains.n_prompt;
    n_ids_ = n_prompt_ + n_written;
    wrong_token_ = *std::ranges::max_element(ids_) + 1;
    return;
  }
  n_ids_ = n_prompt_ + n_written;
  made_up_.assign(static_cast<size_t>(chains.n_texts * n_ids_), 0);
  ids_ = made_up_;
}

std::span<const int32_t> RecordedTexts::Of(int64_t text) const {
  return ids_.subspan(static_cast<size_t>(text * n_ids_), static_cast<size_t>(n_ids_));
}

void RecordedDraft::Draft(std::span<const DraftRequest> requests) {
  const std::span<const int32_t> ids = texts_.Of(text_);
  for (const DraftRequest& request : requests) {
    const int64_t position = std::ssize(request.ids) - texts_.n_prompt();
    CHECK(position >= 0 && position < chains_.n_positions());
    const auto chain = static_cast<size_t>(text_ * chains_.n_positions() + position);
    const float* const certainty = &chains_.certainty[chain * static_cast<size_t>(chains_.depth)];
    const auto behind = ids.subspan(request.ids.size());
    int32_t at = DraftTree::kText;
    for (int64_t d = 0; d < chains_.depth && request.tree->WantsPass(at); ++d) {
      ++n_passes_;  // a token is computed before it is known how certain it is
      const bool right = d < chains_.accepted[chain];
      const int32_t token = right ? behind[static_cast<size_t>(d)] : texts_.wrong_token();
      at = request.tree->Add(at, token, static_cast<double>(certainty[d]));
    }
  }
}

}  // namespace thermocline
