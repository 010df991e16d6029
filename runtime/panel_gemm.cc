#include "runtime/panel_gemm.h"

#include <algorithm>
#include <dnnl.hpp>
#include <map>
#include <string>
#include <tuple>
#include <unordered_map>

#include "runtime/core/aligned_buffer.h"
#include "runtime/core/error.h"

namespace thermocline {
namespace {

using DnnlType = dnnl::memory::data_type;

// A product (m, k) x (k, n) -> (m, n) f32 with its strides: the key under which oneDNN's compiled
// primitive is kept.
struct Product {
  bool bf16;
  bool accumulate;  // add to what is there
  int64_t m, k, n;
  int64_t lda;
  int64_t ldb_k, ldb_n;  // strides of b along k and n
  int64_t ldc;

  auto Key() const { return std::tie(bf16, accumulate, m, k, n, lda, ldb_k, ldb_n, ldc); }
  bool operator<(const Product& other) const { return Key() < other.Key(); }
};

struct Compiled {
  dnnl::matmul primitive;
  dnnl::memory::desc a, b, c, scratch;
};

}  // namespace

struct PanelGemm::Impl {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  std::map<Product, Compiled> compiled;
  AlignedBuffer panel;
  AlignedBuffer scratch;

  const Compiled& Get(const Product& p) {
    const auto found = compiled.find(p);
    if (found != compiled.end()) return found->second;
    const DnnlType type = p.bf16 ? DnnlType::bf16 : DnnlType::f32;
    const dnnl::memory::desc a({p.m, p.k}, type, dnnl::memory::dims{p.lda, 1});
    const dnnl::memory::desc b({p.k, p.n}, type, dnnl::memory::dims{p.ldb_k, p.ldb_n});
    const dnnl::memory::desc c({p.m, p.n}, DnnlType::f32, dnnl::memory::dims{p.ldc, 1});
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    if (p.accumulate) {
      dnnl::post_ops sum;
      sum.append_sum(1.0F);
      attributes.set_post_ops(sum);
    }
    const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(a, b, c), attributes, engine);
    Compiled entry{dnnl::matmul(description), a, b, c, description.scratchpad_desc()};
    return compiled.emplace(p, std::move(entry)).first->second;
  }

  void Run(const Product& p, const void* a, const void* b, float* c) {
    const Compiled& entry = Get(p);
    if (entry.scratch.get_size() > scratch.size()) {
      scratch = AlignedBuffer(entry.scratch.get_size(), "prefill scratch");
    }
    // oneDNN's handles are not const; sources are only read.
    const dnnl::memory ma(entry.a, engine, const_cast<void*>(a));
    const dnnl::memory mb(entry.b, engine, const_cast<void*>(b));
    const dnnl::memory mc(entry.c, engine, c);
    const dnnl::memory ms(entry.scratch, engine, scratch.data());
    entry.primitive.execute(stream, {{DNNL_ARG_SRC, ma},
                                     {DNNL_ARG_WEIGHTS, mb},
                                     {DNNL_ARG_DST, mc},
                                     {DNNL_ARG_SCRATCHPAD, ms}});
    stream.wait();
  }
};

PanelGemm::PanelGemm(const KernelTable& kernels, int64_t max_d_in)
    : kernels_(kernels), impl_(std::make_unique<Impl>()) {
  const int64_t elems = std::max(kPanelRows * max_d_in, kPanelNeurons * kPanelColumns);
  impl_->panel = AlignedBuffer(static_cast<uint64_t>(elems) * sizeof(float), "prefill panels");
}

PanelGemm::~PanelGemm() = default;

bool PanelGemm::UsesBf16(const KernelTable& kernels, DType weights) {
  return weights != DType::kF32 && weights != DType::kF16 &&
         kernels.vector_form(DType::kBF16) == VectorForm::kBF16;
}

void PanelGemm::MultiplyRows(const TensorView& w, int64_t row_begin, int64_t row_end,
                             const GemmInput& x, float* out, int64_t ldo) {
  const int64_t rows = row_end - row_begin;
  if (rows <= 0) return;
  DCHECK(rows <= kPanelRows && x.d_in == w.cols);
  const bool bf16 = UsesBf16(kernels_, w.dtype);
  const int64_t k = w.cols;
  for (int64_t r = 0; r < rows; ++r) {
    const std::byte* row = w.row(row_begin + r);
    if (bf16) {
      kernels_.dequantize_bf16(w.dtype, row, 0, k, impl_->panel.as<uint16_t>() + r * k);
    } else {
      kernels_.dequantize_f32(w.dtype, row, 0, k, impl_->panel.as<float>() + r * k);
    }
  }
  const Product product{bf16, false, x.n_tokens, k, rows, x.d_in, 1, k, ldo};
  const void* input = bf16 ? static_cast<const void*>(x.bf16) : x.f32;
  impl_->Run(product, input, impl_->panel.data(), out + row_begin);
}

void PanelGemm::MultiplyColumns(const TensorView& w, int64_t col_begin, int64_t col_end,
                                const GemmInput& h, float* out, int64_t ldo) {
  const int64_t cols = col_end - col_begin;
  if (cols <= 0) return;
  DCHECK(cols <= kPanelColumns && h.d_in == w.rows);
  const bool bf16 = UsesBf16(kernels_, w.dtype);
  for (int64_t begin = 0; begin < w.rows; begin += kPanelNeurons) {
    const int64_t k = std::min(kPanelNeurons, w.rows - begin);
    for (int64_t i = 0; i < k; ++i) {
      const std::byte* row = w.row(begin + i);
      if (bf16) {
        kernels_.dequantize_bf16(w.dtype, row, col_begin, col_end,
                                 impl_->panel.as<uint16_t>() + i * cols);
      } else {
        kernels_.dequantize_f32(w.dtype, row, col_begin, col_end,
                                impl_->panel.as<float>() + i * cols);
      }
    }
    const Product product{bf16, begin > 0, h.n_tokens, k, cols, h.d_in, cols, 1, ldo};
    const void* input = bf16 ? static_cast<const void*>(h.bf16 + begin) : h.f32 + begin;
    impl_->Run(product, input, impl_->panel.data(), out + col_begin);
  }
}

}  // namespace thermocline
