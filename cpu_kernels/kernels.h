// The CPU kernels, as one table of functions per instruction set. The table is chosen once at start
// (or forced with THERMOCLINE_FORCE_ISA); callers never ask which one they got.
//
// Kernels know pointers and dimensions, nothing else: no models, no files, no threads. Those that
// split across threads take a [begin, end) range, and what they compute for one row or column does
// not depend on the range, so results are the same bits for any number of threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "cpu_kernels/gemm.h"
#include "cpu_kernels/kernel_args.h"
#include "runtime/core/activation.h"
#include "runtime/core/dtype.h"
#include "runtime/core/rope_pairing.h"

namespace thermocline {

// How a dot-product kernel wants its activation vector. A vector is prepared once and reused by
// every matrix that reads it (q/k/v; gate/up).
enum class VectorForm : uint8_t {
  kF32,   // as it is
  kBF16,  // two bf16 vectors, x = hi + lo to 16 bits of mantissa (BF16 dot instructions)
  kQ8,    // int8 per block of 32 with an f32 scale, plus the sums that offset unsigned arithmetic
  kQ8Super,  // int8 with an f32 scale per 256 and a factor from 1 to 127 per 32, and sums
};

struct KernelTable {
  std::string_view isa;       // "scalar", "avx2", "avx512"
  std::string_view features;  // "avx512 vnni bf16 vbmi", for the logs
  // Of what quantised weights are multiplied by. A table of 16 bits keeps two vectors for one (and
  // two batches of activations, in `gemm`): x rounded to 8 bits, and what that leaves of x rounded
  // to 8 bits. See KernelsOf.
  int activation_bits = 8;

  // ---- vectors ----

  // The form in which matvec of this weight type wants x.
  VectorForm (*vector_form)(DType weights);
  // Bytes of a prepared vector of n elements (a multiple of 64). Those of several tokens lie
  // PreparedStride apart.
  int64_t (*prepared_bytes)(VectorForm form, int64_t n);
  // x: (n) f32. out: prepared_bytes(form, n), 64-byte aligned. REQUIRES: n % 32 == 0 for kQ8.
  void (*prepare)(VectorForm form, const float* x, int64_t n, void* out);
  // Prepares what is left of x when what `prepare` makes of it is taken away. Only for forms in
  // int8.
  void (*prepare_rest)(VectorForm form, const float* x, int64_t n, void* out);

  // ---- matrix-vector ----

  // out[i] = W[r(i), :] . x for i in [begin, end), r(i) = rows ? rows[i] : i.
  // w: rows of n_cols weights, row r at w + r * row_stride_bytes, any alignment; never read past a
  // row's end. x: prepared in vector_form(dtype). rows: ascending when given (prefetch looks ahead
  // in the list). f32 accumulation; the sum of one row does not depend on the range or on the
  // neighbours in it.
  void (*matvec)(DType dtype, const std::byte* w, int64_t row_stride_bytes, int64_t n_cols,
                 const void* x, const int32_t* rows, int64_t begin, int64_t end, float* out);

  // The same for args.n_tokens tokens, whose vectors lie x_stride_bytes apart (those of kF32 as
  // close as they are, others whole cache lines, and those of 16 bits PreparedStride apart) and
  // whose results lie out_stride apart. Each row
  // is read from memory once and decoded once for some tokens. A token's results have the bits that
  // matvec gives it alone, however many there are (docs/few-tokens.md).
  void (*matvec_tokens)(DType dtype, const MatvecArgs& args);

  // y[c] += sum over i of h[i] * W[rows[i], c] for c in [col_begin, col_end) (Deja Vu's down
  // projection, arXiv:2310.17157: one row of w per neuron). rows may be null: row i is i. Every
  // column is summed in the order of the list as one chain of fused multiply-adds in f32 (plain
  // C++: a multiply, then an add), so entries with h == 0 (and finite weights) change no bit and
  // the split of columns across threads changes none either. REQUIRES: col_begin and col_end are
  // multiples of 32 for quantised types (col_end may be n_cols).
  // It is faster where y is aligned to 64 bytes and cut there, since threads otherwise write to one
  // line, and where whole rows are taken rather than parts of them (the caller may keep partial
  // sums in a fixed order).
  void (*accumulate_rows)(DType dtype, const std::byte* w, int64_t row_stride_bytes, const float* h,
                          const int32_t* rows, int64_t n_rows, int64_t col_begin, int64_t col_end,
                          float* y);

  // The same for many rows of which few are left out, where it may be faster to round h: with Q4_0,
  // and with AVX-VNNI Q8_0, the products of h and a block's scale are rounded to 8 bits, by one
  // scale for some rows of the list that follow each other. Columns do not depend on the range
  // where col_begin is a multiple of 128 and col_end is one, too, or n_cols.
  void (*accumulate_channels)(DType dtype, const std::byte* w, int64_t row_stride_bytes,
                              const float* h, const int32_t* rows, int64_t n_rows,
                              int64_t col_begin, int64_t col_end, float* y);

  // accumulate_rows for args.n_tokens tokens, whose factors lie h_stride apart and whose sums lie
  // y_stride apart. A token's sums have the bits of accumulate_rows over the same list, and so
  // those of a list without the rows whose factor is 0, as long as the weights are finite.
  void (*accumulate_tokens)(DType dtype, const AccumulateArgs& args);

  // Products with batches of tokens. Null where a library's GEMM on dequantised panels serves
  // instead.
  const GemmKernels* gemm;

  // ---- conversions ----

  // Widens columns [col_begin, col_end) of one row to f32. REQUIRES: column bounds as in
  // accumulate_rows.
  void (*dequantize_f32)(DType dtype, const std::byte* row, int64_t col_begin, int64_t col_end,
                         float* out);
  void (*f32_to_f16)(const float* x, int64_t n, uint16_t* out);
  void (*f32_to_bf16)(const float* x, int64_t n, uint16_t* out);
  // Quantises a row to Q8_0 for what is stored while running. It rounds to nearest even, to the
  // same bytes with every table (QuantizeRow is for files, and rounds halves away from zero).
  // REQUIRES: n % 32 == 0. out: RowBytes(kQ8_0, n). A block with NaN or infinity decodes to NaN.
  void (*f32_to_q8_0)(const float* x, int64_t n, std::byte* out);

  // ---- small ops ----

  // out[i] = x[i] / sqrt(mean(x^2) + eps) * weight[i]. x, weight, out: (n) f32; out may be x.
  void (*rms_norm)(const float* x, const float* weight, int64_t n, float eps, float* out);
  // out[i] = (x[i] - mean(x)) / sqrt(variance(x) + eps) * weight[i] + bias[i] (arXiv:1607.06450).
  // The variance is that of the n. bias may be null. x, weight, bias, out: (n) f32; out may be x.
  void (*layer_norm)(const float* x, const float* weight, const float* bias, int64_t n, float eps,
                     float* out);
  // Rotates the first rot_dim elements of a head by the angles whose cosines and sines are given.
  // head: (head_dim) f32. cos, sin: (rot_dim / 2) f32.
  void (*rope)(RopePairing pairing, float* head, int64_t rot_dim, const float* cos,
               const float* sin);
  // x[i] = e^(scale x[i] - m), m = max_i scale x[i]. Returns the sum and stores m. It is a softmax
  // before its division, so that parts of a long one can be put together. x: (n) f32, n >= 1; scale
  // > 0.
  float (*exp_scores)(float* x, int64_t n, float scale, float* m);
  // gate[i] = act(gate[i]) for i in [0, n).
  void (*activate)(Activation activation, float* gate, int64_t n);
  // x[i] = 0 where x[i] < threshold (FATReLU, arXiv:2402.13516); NaN stays NaN. x: (n) f32.
  void (*drop_below)(float* x, int64_t n, float threshold);
  // out[i] = x[i] where |x[i]| * factors[i] >= least, else 0; NaN stays NaN. factors may be null:
  // all
  // 1. x, factors, out: (n) f32; out may be x. What is kept is the same with every table.
  void (*cut_below)(const float* x, const float* factors, float least, int64_t n, float* out);
  // x[i] = cap * tanh(scale * x[i] / cap), or scale * x[i] where cap is 0. x: (n) f32.
  void (*scale)(float* x, int64_t n, float scale, float cap);
  void (*multiply)(float* x, const float* y, int64_t n);  // x *= y
  void (*add)(float* x, const float* y, int64_t n);       // x += y
  // Writes base + i for each i in [0, n) with values[i] != 0, ascending; returns how many (NaN
  // counts as active, so that garbage stays visible). indices: room for n + 16.
  int64_t (*compact_nonzero)(const float* values, int64_t n, int32_t base, int32_t* indices);
  // Bit i % 64 of word i / 64 is set where x[i] < 0 (the sign bit: -0 counts); the bits behind n
  // are 0. x: (n) f32. words: (n + 63) / 64 of them.
  void (*pack_signs)(const float* x, int64_t n, uint64_t* words);
  // out[i] = number of bits in which row i of w differs from x, for i in [begin, end): how many
  // products of a row with x are negative (SparseInfer, arXiv:2411.12692). w: rows of n_words
  // words, end to end. x: (n_words). out: indexed by row.
  void (*count_sign_differences)(const uint64_t* w, int64_t n_words, const uint64_t* x,
                                 int64_t begin, int64_t end, int32_t* out);
  // The sum of n words modulo 2^64, read as a plain stream: the yardstick of read bandwidth.
  uint64_t (*sum_words)(const uint64_t* words, int64_t n);
};

// The table in use. THERMOCLINE_FORCE_ISA names an ISA, or one table by its features ("avx2 fma
// f16c" is AVX2 without VNNI). Throws Error when it names what is unknown or what this machine
// lacks.
const KernelTable& CpuKernels();

// Returns the table that computes as `table` does, with activations of 8 or 16 bits (cpu_kernels/
// two_planes.cc). table: one of AvailableCpuKernels. Both have the same vector forms; those in int8
// are prepared otherwise, so a vector belongs to the table that made it.
const KernelTable& KernelsOf(const KernelTable& table, int activation_bits);

// Returns how far apart the prepared vectors of several tokens lie, in bytes.
int64_t PreparedStride(const KernelTable& table, VectorForm form, int64_t n);

// Every table this machine can run, slowest first (scalar is always there). Tests and benches use
// it.
std::span<const KernelTable* const> AvailableCpuKernels();

// Quantises n weights to `dtype`, a type that can be written. x: (n) f32. out: RowBytes(dtype, n).
// It is plain C++ on every machine, so that files come out the same everywhere.
//
// importance: empty, or (n) f32, finite and >= 0: by how much the squared error of each weight
// counts, such as the mean square of the input that it meets. Without it Q8_0, Q5_1, Q5_0, Q4_1 and
// Q4_0 round as ggml's reference does: Q8_0 d = max|x| / 127; Q5_0, Q4_0 d = (the value of largest
// magnitude) / -16, / -8; Q5_1, Q4_1 m = min x, d = (max x - min x) / 31, / 15. With it they, and
// the other types always (Q8_0 never), minimise the squared error over a few scales per group of
// weights; those bytes are not ggml's.
//
// A block with NaN or infinity decodes to NaN (MXFP4: to infinity).
void QuantizeRow(DType dtype, const float* x, int64_t n, std::byte* out,
                 std::span<const float> importance = {});

}  // namespace thermocline
