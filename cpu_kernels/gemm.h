// Products of weights with a batch of tokens, as kernels. Weights are packed a panel at a time into
// scratch that fits a core's cache, activations once per op, and a panel is multiplied with all
// tokens. A table has all of these entries or none (then a library's GEMM on dequantised weights
// serves).
//
// A panel holds kGemmPanel outputs (rows of a (d_out, d_in) matrix, or columns of one with a row
// per neuron); more outputs are panels one after another, panel_bytes(form, k) each. Tokens are
// taken in tiles of up to tile_tokens(form); the number of tokens fixes how they fall into tiles.
// An output is one chain of sums in the order of k, wherever it is cut, so it has the same bits in
// every batch, panel and tile.
#pragma once

#include <cstddef>
#include <cstdint>

#include "runtime/core/dtype.h"

namespace thermocline {

inline constexpr int64_t kGemmPanel = 32;
inline constexpr int64_t kGemmBlock = 128;  // k is cut at multiples of it

// What activations and weights are turned into.
enum class GemmForm : uint8_t {
  kF32,   // f32 both: every type, as precise as it is
  kBF16,  // bf16 both, summed in f32
  kQ8,    // int8 per block of 32 with scales, as VectorForm::kQ8; blocks along k
  kI16,   // 12 and 13 bits and signs per kGemmBlock with scales: F16, no less precise than it is
  kQ8Offset,   // as kQ8, and offsets that are added to an output's weights of a block; with AVX2
               // without VNNI integers of at most four bits
  kQ8Wide,     // as kQ8Offset, there of at most five bits
  kQ8Halves,   // as kQ8Offset, of at most seven bits, with scales and offsets of 16 weights each
  kQ8Centred,  // as kQ8Halves, from -32 to 31 and without offsets
};
inline constexpr GemmForm kGemmForms[] = {
    GemmForm::kF32,      GemmForm::kBF16,   GemmForm::kQ8,       GemmForm::kI16,
    GemmForm::kQ8Offset, GemmForm::kQ8Wide, GemmForm::kQ8Halves, GemmForm::kQ8Centred};

// Rows of weights that will be read next. Packing or the multiplication prefetches them while it
// works, and never reads them. Without rows nothing is prefetched.
struct RowsAhead {
  const std::byte* data = nullptr;
  int64_t row_stride_bytes = 0;
  int64_t row_bytes = 0;
  int64_t n_rows = 0;
};

struct GemmProduct {
  GemmForm form;
  const std::byte* panels;  // 64-byte aligned
  int64_t n_outputs;
  const std::byte* x;  // prepared, all k of all tokens
  int64_t n_tokens;
  int64_t x_k;      // the k of x
  int64_t k_begin;  // the part of k that the panels hold; multiples of kGemmBlock, k_end also x_k
  int64_t k_end;
  bool accumulate;  // go on from the sums in out
  float* out;       // (n_tokens, ldo), n_outputs columns
  int64_t ldo;
  RowsAhead ahead;
  // A second vector of each token, prepared as x is, or null: outputs are the sums of both. An
  // output's chain takes the one and then the other after every kGemmBlock of k.
  const std::byte* rest = nullptr;
};

struct GemmKernels {
  // How weights of this type are multiplied fastest: along their rows, or summed over their rows.
  GemmForm (*rows_form)(DType weights);
  GemmForm (*columns_form)(DType weights);
  int64_t (*tile_tokens)(GemmForm form);
  // Bytes of prepared activations, a multiple of 64. k: a multiple of 32 for the forms in int8.
  int64_t (*input_bytes)(GemmForm form, int64_t n_tokens, int64_t k);
  // Prepares the tokens of tiles [tile_begin, tile_end) out of gemm_tile_count. x: (n_tokens, k)
  // f32. out: 64-byte aligned.
  void (*prepare)(GemmForm form, const float* x, int64_t n_tokens, int64_t k, int64_t tile_begin,
                  int64_t tile_end, std::byte* out);
  // Prepares what is left of x when what `prepare` makes of it is taken away. Only for forms in
  // int8.
  void (*prepare_rest)(GemmForm form, const float* x, int64_t n_tokens, int64_t k,
                       int64_t tile_begin, int64_t tile_end, std::byte* out);
  int64_t (*panel_bytes)(GemmForm form, int64_t k);
  // Packs columns [k_begin, k_end) of n_rows rows; outputs are rows. form: rows_form(dtype) or
  // kF32. Never reads past a row's columns.
  void (*pack_rows)(GemmForm form, DType dtype, const std::byte* w, int64_t row_stride_bytes,
                    int64_t n_rows, int64_t k_begin, int64_t k_end, const RowsAhead& ahead,
                    std::byte* panels);
  // Packs columns [col_begin, col_end) of n_rows rows; outputs are columns, and k counts rows.
  // form: columns_form(dtype) or kF32. Column bounds are multiples of 32 for quantised types.
  void (*pack_columns)(GemmForm form, DType dtype, const std::byte* w, int64_t row_stride_bytes,
                       int64_t n_rows, int64_t col_begin, int64_t col_end, std::byte* panels);
  // out[t, o] = (accumulate ? out[t, o] : 0) + sum over k of x[t, k] * panels[k, o].
  void (*multiply)(const GemmProduct& product);
  // The yardstick: runs n rounds of the form's multiply-add instruction on registers alone, twelve
  // independent ones in a round. Returns the multiply-adds done.
  int64_t (*multiply_registers)(GemmForm form, int64_t n);
};

inline constexpr int64_t gemm_tile_count(int64_t n_tokens, int64_t tile_tokens) {
  return (n_tokens + tile_tokens - 1) / tile_tokens;
}

}  // namespace thermocline
