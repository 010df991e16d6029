// Tables whose activations have 16 bits: each is one of 8 bits used twice. A vector is kept as two
// planes, x rounded to int8 by block, and what that leaves of x rounded in the same way. A product
// with it is the sum of the products with both, which the kernels of several tokens make at one
// read of the weights. So there are no kernels here, and what holds of a plane's bits (they depend
// on neither range, neighbours nor the number of tokens) holds of the sum's.
#include <algorithm>
#include <array>
#include <utility>

#include "cpu_kernels/kernel_args.h"
#include "cpu_kernels/kernels.h"
#include "runtime/core/error.h"

namespace thermocline {
namespace {

constexpr size_t kMostTables = 6;  // scalar, AVX2 without and with VNNI, three of AVX-512
// Results of both planes that are kept until they are added: of some hundred rows at least, so that
// rows are read in long stretches.
constexpr int64_t kPlaneResults = 8192;

bool has_planes(VectorForm form) { return form == VectorForm::kQ8 || form == VectorForm::kQ8Super; }

bool has_planes(GemmForm form) {
  return form == GemmForm::kQ8 || form == GemmForm::kQ8Offset || form == GemmForm::kQ8Wide ||
         form == GemmForm::kQ8Halves || form == GemmForm::kQ8Centred;
}

// Table kIndex of AvailableCpuKernels with two planes.
template <size_t kIndex>
struct TwoPlanes {
  static const KernelTable& base() { return *AvailableCpuKernels()[kIndex]; }
  static const GemmKernels& gemm() { return *base().gemm; }

  // ---- vectors: the planes lie as two tokens do ----

  static int64_t plane_stride(VectorForm form, int64_t n) {
    return TokenStride(base().prepared_bytes(form, n));
  }

  static int64_t prepared_bytes(VectorForm form, int64_t n) {
    return has_planes(form) ? 2 * plane_stride(form, n) : base().prepared_bytes(form, n);
  }

  static void prepare(VectorForm form, const float* x, int64_t n, void* out) {
    base().prepare(form, x, n, out);
    if (!has_planes(form)) return;
    base().prepare_rest(form, x, n, static_cast<std::byte*>(out) + plane_stride(form, n));
  }

  static void matvec(DType dtype, const std::byte* w, int64_t row_stride_bytes, int64_t n_cols,
                     const void* x, const int32_t* rows, int64_t begin, int64_t end, float* out) {
    matvec_tokens(dtype, {w, row_stride_bytes, n_cols, x, rows, begin, end, out});
  }

  static void matvec_tokens(DType dtype, const MatvecArgs& args) {
    const VectorForm form = base().vector_form(dtype);
    if (!has_planes(form)) return base().matvec_tokens(dtype, args);
    MatvecArgs part = args;
    part.n_tokens = 2 * args.n_tokens;
    part.x_stride_bytes = plane_stride(form, args.n_cols);
    CHECK(args.n_tokens == 1 || args.x_stride_bytes == 2 * part.x_stride_bytes);
    CHECK(part.n_tokens <= kPlaneResults);
    alignas(64) float results[kPlaneResults];
    part.out = results;
    part.begin = 0;
    part.out_stride = kPlaneResults / part.n_tokens;
    for (int64_t at = args.begin; at < args.end; at += part.out_stride) {
      part.end = std::min(part.out_stride, args.end - at);
      if (args.rows != nullptr) {
        part.rows = args.rows + at;
      } else {
        part.w = args.w + at * args.row_stride_bytes;
      }
      base().matvec_tokens(dtype, part);
      for (int64_t t = 0; t < args.n_tokens; ++t) {
        float* const out = args.out + t * args.out_stride + at;
        const float* const rounded = results + 2 * t * part.out_stride;
        const float* const rest = rounded + part.out_stride;
        for (int64_t i = 0; i < part.end; ++i) out[i] = rounded[i] + rest[i];
      }
    }
  }

  // ---- batches: the second plane lies behind the first ----

  // bf16 rounds activations to 8 bits as well, and two planes of it would take as long as f32.
  static GemmForm precise(GemmForm form) { return form == GemmForm::kBF16 ? GemmForm::kF32 : form; }
  static GemmForm rows_form(DType weights) { return precise(gemm().rows_form(weights)); }
  static GemmForm columns_form(DType weights) { return precise(gemm().columns_form(weights)); }

  static int64_t input_bytes(GemmForm form, int64_t n_tokens, int64_t k) {
    return gemm().input_bytes(form, n_tokens, k) * (has_planes(form) ? 2 : 1);
  }

  static void prepare_batch(GemmForm form, const float* x, int64_t n_tokens, int64_t k,
                            int64_t tile_begin, int64_t tile_end, std::byte* out) {
    gemm().prepare(form, x, n_tokens, k, tile_begin, tile_end, out);
    if (!has_planes(form)) return;
    gemm().prepare_rest(form, x, n_tokens, k, tile_begin, tile_end,
                        out + gemm().input_bytes(form, n_tokens, k));
  }

  static void multiply(const GemmProduct& product) {
    GemmProduct both = product;
    if (has_planes(product.form)) {
      both.rest = product.x + gemm().input_bytes(product.form, product.n_tokens, product.x_k);
    }
    gemm().multiply(both);
  }

  static const GemmKernels* make_gemm() {
    if (base().gemm == nullptr) return nullptr;
    static const GemmKernels kernels = [] {
      GemmKernels made = gemm();
      made.rows_form = rows_form;
      made.columns_form = columns_form;
      made.input_bytes = input_bytes;
      made.prepare = prepare_batch;
      made.multiply = multiply;
      return made;
    }();
    return &kernels;
  }

  // Sums over rows have factors in f32 but for accumulate_channels.
  static const KernelTable& table() {
    static const KernelTable made = [] {
      KernelTable table = base();
      table.activation_bits = 16;
      table.prepared_bytes = prepared_bytes;
      table.prepare = prepare;
      table.matvec = matvec;
      table.matvec_tokens = matvec_tokens;
      table.accumulate_channels = base().accumulate_rows;
      table.gemm = make_gemm();
      return table;
    }();
    return made;
  }
};

using MakeTable = const KernelTable& (*)();

template <size_t... kIndices>
constexpr std::array<MakeTable, sizeof...(kIndices)> tables_of(
    std::index_sequence<kIndices...> /*indices*/) {
  return {TwoPlanes<kIndices>::table...};
}

}  // namespace

const KernelTable& KernelsOf(const KernelTable& table, int activation_bits) {
  CHECK(activation_bits == 8 || activation_bits == 16);
  constexpr auto kTables = tables_of(std::make_index_sequence<kMostTables>());
  const auto available = AvailableCpuKernels();
  const auto found = std::ranges::find(available, &table);
  CHECK(found != available.end());
  if (activation_bits == 8) return table;
  const auto index = static_cast<size_t>(found - available.begin());
  CHECK(index < kTables.size());
  return kTables[index]();
}

int64_t PreparedStride(const KernelTable& table, VectorForm form, int64_t n) {
  const int64_t n_bytes = table.prepared_bytes(form, n);
  // Planes are apart as tokens are, so a vector of two is as long as it should be.
  return table.activation_bits == 16 && has_planes(form) ? n_bytes : TokenStride(n_bytes);
}

}  // namespace thermocline
