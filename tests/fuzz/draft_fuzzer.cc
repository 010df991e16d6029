// A libFuzzer harness of draft files. Whatever the bytes, there is an Error of one line, or a draft
// whose every weight can be read and whose neurons are each there once.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <vector>

#include "cpu_kernels/kernels.h"
#include "runtime/placement/draft_file.h"
#include "tests/fuzz/use_tokenizer.h"

namespace {

using thermocline::DraftFile;
using thermocline::DraftLayer;
using thermocline::DraftSlice;
using thermocline::TensorView;

double SumOf(const TensorView& view) {
  double sum = 0;
  std::vector<float> row(static_cast<size_t>(view.cols));
  for (int64_t r = 0; r < view.rows; ++r) {
    thermocline::CpuKernels().dequantize_f32(view.dtype, view.row(r), 0, view.cols, row.data());
    for (const float value : row) sum += value;
  }
  return sum;
}

double UseDraft(const DraftFile& file) {
  double sum = 0;
  for (const DraftLayer& layer : file.layers) {
    std::vector<int32_t> order = layer.order;
    std::ranges::sort(order);
    for (size_t i = 0; i < order.size(); ++i) {
      if (order[i] != static_cast<int32_t>(i)) std::abort();
    }
    if (layer.n_hot < 0 || layer.n_left_out() < 0) std::abort();
    for (const DraftSlice& slice : layer.slices) {
      if (slice.n_neurons == 0) continue;
      sum += SumOf(slice.gate.view) + SumOf(slice.down.view);
      if (!slice.up.view.empty()) sum += SumOf(slice.up.view);
    }
    if (file.rank > 0) sum += SumOf(layer.left.view) + SumOf(layer.right.view);
    for (const float value : layer.bias) sum += value;
  }
  for (const auto& other : file.replacements) sum += SumOf(other.matrix.view);
  if (std::isnan(sum)) std::abort();
  return sum + static_cast<double>(file.own_bytes()) +
         thermocline::PlacementOfDraft(file, false).layers.size();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
  thermocline::ExpectOneLineErrors([&] {
    const DraftFile file =
        thermocline::ReadDraft(std::make_shared<const thermocline::GgufReader>(bytes, "fuzz"));
    volatile double keep = UseDraft(file);
    (void)keep;
  });
  return 0;
}
