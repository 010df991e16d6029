#include "runtime/device/cpu/panel_gemm.h"

#include <algorithm>

#include "runtime/core/checked_math.h"
#include "runtime/core/error.h"

namespace thermocline {
namespace {

// Bytes of weights packed at a time. They stay in the second cache, beside the activations that go
// by. With few tokens packing takes longer than multiplying: it goes fastest into the first cache,
// and asks for the weights ahead itself (measured: kernel_bench's gemm cases).
constexpr int64_t kPackedBytes = 320 << 10;
constexpr int64_t kFewPackedBytes = 20 << 10;
constexpr int64_t kFewPanelTokens = 16;
constexpr int64_t kLibraryNeurons = 512;  // rows of a down matrix that oneDNN sums at a time

// Returns the k of one panel: equal parts, each of which fits.
int64_t PartOfK(const GemmKernels& gemm, GemmForm form, int64_t packed_bytes, int64_t n_outputs,
                int64_t k) {
  const int64_t block_bytes = CeilDiv(n_outputs, kGemmPanel) * gemm.panel_bytes(form, kGemmBlock);
  const int64_t most = packed_bytes / block_bytes * kGemmBlock;
  return AlignUp(CeilDiv(k, CeilDiv(k, most)), kGemmBlock);
}

// Returns the bytes of a row up to the block that holds column `n`: a panel may begin and end
// inside a block.
int64_t BlocksBytes(DType dtype, int64_t n) {
  const DTypeInfo& info = GetDTypeInfo(dtype);
  return n / info.block_elems * info.block_bytes;
}

int64_t LibraryPanelElems(int64_t max_d_in) {
  return std::max(kPanelRows * max_d_in, kLibraryNeurons * kPanelColumns);
}

}  // namespace

PanelGemm::PanelGemm(const KernelTable& kernels, int64_t max_d_in)
    : kernels_(kernels), panel_(PanelBytes(kernels, max_d_in), "prefill panels") {
  if (kernels.gemm == nullptr) library_ = std::make_unique<OneDnnGemm>();
}

uint64_t PanelGemm::PanelBytes(const KernelTable& kernels, int64_t max_d_in) {
  if (kernels.gemm != nullptr) return kPackedBytes;
  return static_cast<uint64_t>(LibraryPanelElems(max_d_in)) * sizeof(float);
}

uint64_t PanelGemm::InputBytes(const KernelTable& kernels, int64_t max_tokens, int64_t max_d_in) {
  if (kernels.gemm == nullptr) return 0;  // oneDNN reads them where they are
  int64_t most = 0;
  for (const GemmForm form : kGemmForms) {
    most =
        std::max(most, kernels.gemm->input_bytes(form, max_tokens, AlignUp(max_d_in, kQuantBlock)));
  }
  return static_cast<uint64_t>(most);
}

GemmForm PanelGemm::RowsForm(const KernelTable& kernels, DType weights) {
  return kernels.gemm != nullptr ? kernels.gemm->rows_form(weights) : GemmForm::kF32;
}

GemmForm PanelGemm::ColumnsForm(const KernelTable& kernels, DType weights) {
  return kernels.gemm != nullptr ? kernels.gemm->columns_form(weights) : GemmForm::kF32;
}

void PanelGemm::MultiplyRows(const TensorView& w, int64_t row_begin, int64_t row_end,
                             const GemmInput& x, float* out, int64_t ldo, const RowsAhead& ahead) {
  const int64_t rows = row_end - row_begin;
  if (rows <= 0) return;
  DCHECK(rows <= kPanelRows && x.d_in == w.cols && x.form == RowsForm(kernels_, w.dtype));
  const int64_t k = w.cols;
  if (kernels_.gemm == nullptr) {
    for (int64_t r = 0; r < rows; ++r) {
      kernels_.dequantize_f32(w.dtype, w.row(row_begin + r), 0, k, panel_.as<float>() + r * k);
    }
    library_->Run({false, x.n_tokens, k, rows, k, 1, k, ldo},
                  reinterpret_cast<const float*>(x.data), panel_.as<float>(), out + row_begin);
    return;
  }
  for (int64_t r = row_begin; r < row_end; r += kGemmPanel) {
    const bool last = r + kGemmPanel >= row_end;
    PackAndMultiply(w.SliceRows(r, std::min(r + kGemmPanel, row_end)), x, out + r, ldo,
                    last ? ahead : PanelAhead(w, r + kGemmPanel));
  }
}

void PanelGemm::PackAndMultiply(const TensorView& w, const GemmInput& x, float* out, int64_t ldo,
                                const RowsAhead& ahead) {
  const int64_t k = w.cols;
  const int64_t ahead_rows = std::min(ahead.n_rows, kGemmPanel);
  const bool few = x.n_tokens <= kFewPanelTokens;
  const int64_t part =
      PartOfK(*kernels_.gemm, x.form, few ? kFewPackedBytes : kPackedBytes, kGemmPanel, k);
  for (int64_t begin = 0; begin < k; begin += part) {
    const int64_t end = std::min(begin + part, k);
    // Asks for as much of the next panel as this part is of the panel: whole rows, which memory
    // gives fastest.
    RowsAhead next = ahead;
    next.data += ahead_rows * begin / k * ahead.row_stride_bytes;
    next.n_rows = ahead_rows * end / k - ahead_rows * begin / k;
    kernels_.gemm->pack_rows(x.form, w.dtype, w.data, w.row_stride_bytes, w.rows, begin, end,
                             few ? next : RowsAhead{}, panel_.bytes());
    kernels_.gemm->multiply({x.form, panel_.bytes(), w.rows, x.data, x.n_tokens, k, begin, end,
                             begin > 0, out, ldo, few ? RowsAhead{} : next});
  }
}

void PanelGemm::MultiplyColumns(const TensorView& w, int64_t col_begin, int64_t col_end,
                                const GemmInput& h, float* out, int64_t ldo) {
  const int64_t cols = col_end - col_begin;
  if (cols <= 0) return;
  DCHECK(cols <= kPanelColumns && h.d_in == w.rows && h.form == ColumnsForm(kernels_, w.dtype));
  const bool library = kernels_.gemm == nullptr;
  const int64_t part = library
                           ? kLibraryNeurons
                           : PartOfK(*kernels_.gemm, h.form, kPackedBytes, kPanelColumns, w.rows);
  for (int64_t begin = 0; begin < w.rows; begin += part) {
    const int64_t end = std::min(begin + part, w.rows);
    if (library) {
      for (int64_t i = begin; i < end; ++i) {
        kernels_.dequantize_f32(w.dtype, w.row(i), col_begin, col_end,
                                panel_.as<float>() + (i - begin) * cols);
      }
      library_->Run({begin > 0, h.n_tokens, end - begin, cols, h.d_in, cols, 1, ldo},
                    reinterpret_cast<const float*>(h.data) + begin, panel_.as<float>(),
                    out + col_begin);
      continue;
    }
    kernels_.gemm->pack_columns(h.form, w.dtype, w.row(begin), w.row_stride_bytes, end - begin,
                                col_begin, col_end, panel_.bytes());
    const int64_t first_byte = BlocksBytes(w.dtype, col_begin);
    const RowsAhead next_part = {w.row(end) + first_byte, w.row_stride_bytes,
                                 BlocksBytes(w.dtype, col_end) - first_byte,
                                 std::min(part, w.rows - end)};
    kernels_.gemm->multiply({h.form, panel_.bytes(), cols, h.data, h.n_tokens, h.d_in, begin, end,
                             begin > 0, out + col_begin, ldo, next_part});
  }
}

RowsAhead PanelAhead(const TensorView& w, int64_t row_begin) {
  if (row_begin >= w.rows) return {};
  return {w.row(row_begin), w.row_stride_bytes, RowBytes(w.dtype, w.cols),
          std::min(kPanelRows, w.rows - row_begin)};
}

}  // namespace thermocline
