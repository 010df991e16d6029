#include "runtime/grammar/grammar_rules.h"

#include <algorithm>

namespace thermocline {

std::vector<CodepointRange> NormalizedRanges(std::vector<CodepointRange> ranges) {
  std::sort(ranges.begin(), ranges.end(),
            [](const CodepointRange& a, const CodepointRange& b) { return a.first < b.first; });
  std::vector<CodepointRange> out;
  for (const CodepointRange& range : ranges) {
    if (range.last < range.first) continue;
    if (!out.empty() && range.first <= out.back().last + 1) {
      out.back().last = std::max(out.back().last, range.last);
    } else {
      out.push_back(range);
    }
  }
  return out;
}

std::vector<CodepointRange> ComplementOf(std::vector<CodepointRange> ranges) {
  std::vector<CodepointRange> out;
  uint32_t next = 0;
  for (const CodepointRange& range : NormalizedRanges(std::move(ranges))) {
    if (range.first > next) out.push_back({next, range.first - 1});
    next = range.last + 1;
  }
  if (next <= kMaxCodepoint) out.push_back({next, kMaxCodepoint});
  return out;
}

}  // namespace thermocline
