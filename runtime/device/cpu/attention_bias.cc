#include "runtime/device/cpu/attention_bias.h"

#include <algorithm>

namespace thermocline {

void AddRelativeBias(const KernelTable& kernels, const RelativeBias& bias, int64_t head,
                     int64_t position, int64_t begin, int64_t end, float* scores) {
  const int64_t m = bias.max_distance;
  const float* const at_query = bias.by_distance + head * (2 * m + 1) + m;
  const int64_t near_begin = std::clamp(position - m, begin, end);
  const int64_t near_end = std::clamp(position + m + 1, near_begin, end);
  for (int64_t i = begin; i < near_begin; ++i) scores[i - begin] += at_query[-m];
  if (near_end > near_begin) {
    kernels.add(scores + (near_begin - begin), at_query + (near_begin - position),
                near_end - near_begin);
  }
  for (int64_t i = near_end; i < end; ++i) scores[i - begin] += at_query[m];
}

}  // namespace thermocline
