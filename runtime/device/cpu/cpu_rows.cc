#include "runtime/device/cpu/cpu_rows.h"

#include <algorithm>

#include "runtime/core/checked_math.h"
#include "runtime/core/error.h"

namespace thermocline {
namespace {

constexpr VectorForm kForms[] = {VectorForm::kF32, VectorForm::kBF16, VectorForm::kQ8};
constexpr int kPreparedSlots = 2;  // matrices that want one x in two forms
constexpr int64_t kRowUnit = 8;    // rows a lane's share of a matrix is cut at
// Bytes of weights that a lane takes at a time, some ten microseconds' worth, which is what a lane
// that was held up costs the others.
constexpr int64_t kRowsChunkBytes = 256 << 10;

uint64_t LaneBytes(const KernelTable& kernels, const CpuDeviceLimits& limits) {
  return PreparedVectorBytes(kernels, limits.max_d_in) *
         static_cast<uint64_t>(limits.MaxRowTokens() * kPreparedSlots);
}

}  // namespace

uint64_t PreparedVectorBytes(const KernelTable& kernels, int64_t d) {
  int64_t most = 0;
  for (const VectorForm form : kForms) {
    most = std::max(most, PreparedStride(kernels, form, AlignUp(d, kQuantBlock)));
  }
  return static_cast<uint64_t>(most);
}

CpuRows::CpuRows(const KernelTable& kernels, const CpuDeviceLimits& limits)
    : kernels_(kernels), max_row_tokens_(limits.MaxRowTokens()) {
  for (int i = 0; i < limits.n_lanes; ++i) {
    prepared_.emplace_back(LaneBytes(kernels, limits), "activation vectors");
  }
}

uint64_t CpuRows::Bytes(const KernelTable& kernels, const CpuDeviceLimits& limits) {
  return LaneBytes(kernels, limits) * static_cast<uint64_t>(limits.n_lanes);
}

int64_t CpuRows::PreparedStride(VectorForm form, int64_t d) const {
  return thermocline::PreparedStride(kernels_, form, d);
}

const std::byte* CpuRows::Prepare(const Lane& lane, VectorForm form, const float* x, int64_t n,
                                  int64_t d, int slot) {
  if (form == VectorForm::kF32 && n == 1) return reinterpret_cast<const std::byte*>(x);
  DCHECK(n <= max_row_tokens_);
  AlignedBuffer& prepared = prepared_[static_cast<size_t>(lane.rank)];
  std::byte* out =
      prepared.bytes() + prepared.size() / kPreparedSlots * static_cast<uint64_t>(slot);
  for (int64_t t = 0; t < n; ++t) {
    kernels_.prepare(form, x + t * d, d, out + t * PreparedStride(form, d));
  }
  return out;
}

// Shares out the rows of all matrices that want x in the same form as one list.
void CpuRows::Linear(const Lane& lane, std::span<const LinearOp> ops, const float* x, int64_t n) {
  const int64_t d_in = ops.front().weights->w.cols;
  while (!ops.empty()) {
    const VectorForm form = kernels_.vector_form(ops.front().weights->w.dtype);
    size_t same = 0;
    int64_t n_rows = 0;
    int64_t row_bytes = 1;
    for (; same < ops.size(); ++same) {
      const TensorView& w = ops[same].weights->w;
      if (kernels_.vector_form(w.dtype) != form) break;
      n_rows += w.rows;
      row_bytes = std::max(row_bytes, w.row_stride_bytes);
    }
    const std::byte* prepared = Prepare(lane, form, x, n, d_in);
    const int64_t grain = AlignUp(CeilDiv(kRowsChunkBytes, row_bytes), kRowUnit);
    lane.Share(n_rows, kRowUnit, grain, [&](int64_t begin, int64_t end) {
      for (const LinearOp& op : ops.first(same)) {
        const int64_t rows = op.weights->w.rows;
        if (begin < rows && end > 0) {
          MultiplyRows(op, prepared, PreparedStride(form, d_in), n, std::max<int64_t>(begin, 0),
                       std::min(end, rows));
        }
        begin -= rows;
        end -= rows;
      }
    });
    ops = ops.subspan(same);
    if (!ops.empty()) lane.Sync();
  }
}

// Multiplies rows [begin, end) by all tokens.
void CpuRows::MultiplyRows(const LinearOp& op, const std::byte* prepared, int64_t stride, int64_t n,
                           int64_t begin, int64_t end) const {
  const TensorView& w = op.weights->w;
  kernels_.matvec_tokens(w.dtype, {w.data, w.row_stride_bytes, w.cols, prepared, nullptr, begin,
                                   end, op.out, n, stride, w.rows});
  if (op.weights->bias == nullptr) return;
  for (int64_t t = 0; t < n; ++t) {
    kernels_.add(op.out + t * w.rows + begin, op.weights->bias + begin, end - begin);
  }
}

}  // namespace thermocline
