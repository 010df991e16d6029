#include "runtime/speculate/extended_draft.h"

#include <limits>
#include <vector>

namespace thermocline {

void ExtendedDraft::Draft(std::span<const DraftRequest> requests) {
  for (const DraftRequest& request : requests) {
    NgramIndex& index = texts_[request.text];
    index.Follow(request.ids);
    request.tree->set_extension([&index, tree = request.tree](int32_t parent) {
      const auto matches = index.FindBehind(tree->PathTo(parent), 1);
      return matches.empty() ? std::numeric_limits<double>::quiet_NaN()
                             : NgramCertainty(matches.front().length);
    });
  }
  source_->Draft(requests);
  for (const DraftRequest& request : requests) {
    DraftTree& tree = *request.tree;
    tree.BeginExtension();
    std::vector<int32_t> ends;
    for (int32_t node = 0; node < static_cast<int32_t>(tree.nodes().size()); ++node) {
      if (tree.IsLeaf(node)) ends.push_back(node);
    }
    if (ends.empty()) ends.push_back(DraftTree::kText);
    ProposeNgrams(texts_[request.text], ends, &tree);
  }
}

void ExtendedDraft::Forget(int32_t text) {
  texts_.erase(text);
  source_->Forget(text);
}

}  // namespace thermocline
