#include "runtime/device/adapters.h"

#include "runtime/core/error.h"

namespace thermocline {

void AdapterRows::Fill(const ModelAdapters& adapters, const Batch& batch) {
  const auto n_adapters = static_cast<int32_t>(adapters.ranks.size());
  total_rank_ = adapters.total_rank();
  std::vector<Group> all(adapters.ranks.size());
  for (int64_t t = 0; t < batch.n_rows(); ++t) {
    const BatchSequence& sequence = batch.sequences[static_cast<size_t>(batch.row(t).sequence)];
    CHECK(static_cast<size_t>(sequence.adapter_set) < adapters.sets.size());
    for (const int32_t adapter : adapters.sets[static_cast<size_t>(sequence.adapter_set)]) {
      all[static_cast<size_t>(adapter)].rows.push_back(static_cast<int32_t>(t));
    }
  }
  std::vector<std::vector<int32_t>> of_row(static_cast<size_t>(batch.n_rows()));
  groups_.clear();
  int64_t offset = 0;
  for (int32_t adapter = 0; adapter < n_adapters; ++adapter) {
    Group& group = all[static_cast<size_t>(adapter)];
    group.adapter = adapter;
    group.offset = offset;
    offset += adapters.ranks[static_cast<size_t>(adapter)];
    if (group.rows.empty()) continue;
    for (const int32_t row : group.rows) {
      of_row[static_cast<size_t>(row)].push_back(static_cast<int32_t>(groups_.size()));
    }
    groups_.push_back(std::move(group));
  }
  row_begin_.assign(1, 0);
  row_groups_.clear();
  for (const std::vector<int32_t>& of : of_row) {
    row_groups_.insert(row_groups_.end(), of.begin(), of.end());
    row_begin_.push_back(static_cast<int64_t>(row_groups_.size()));
  }
}

}  // namespace thermocline
