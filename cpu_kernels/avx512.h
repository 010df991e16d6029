// What the AVX-512 translation units offer. They need AVX-512 F, BW, VL, DQ and CD at run time;
// some parts below need the extension that their names say.
#pragma once

#include "cpu_kernels/gemm.h"
#include "cpu_kernels/kernel_args.h"
#include "cpu_kernels/kernels.h"

namespace thermocline::avx512 {

// Fills in everything but vector_form, prepared_bytes, prepare, matvec and the two of sign bits.
void fill_table(KernelTable* table);
void matvec_float(DType dtype, const MatvecArgs& args);  // x: kF32

// accumulate_rows for types of nibbles.
void accumulate_q4_0(const AccumulateArgs& args);
void accumulate_q4_1(const AccumulateArgs& args);
void accumulate_any(DType dtype, const AccumulateArgs& args);

// VectorForm::kQ8 and the products with it (Q8_0, Q6_K, Q4_1, Q4_0). REQUIRES: AVX512_VNNI.
int64_t vnni_q8_bytes(int64_t n);
void vnni_accumulate_channels(DType dtype, const std::byte* w, int64_t row_stride_bytes,
                              const float* h, const int32_t* rows, int64_t n_rows,
                              int64_t col_begin, int64_t col_end, float* y);
void vnni_prepare_q8(const float* x, int64_t n, Plane plane, void* out);
void vnni_matvec_quantised(DType dtype, const MatvecArgs& args);
void vnni_matvec_q6_k(const MatvecArgs& args);
void vnni_matvec_q4_1(const MatvecArgs& args);
void vnni_matvec_octets(DType dtype, const MatvecArgs& args);

// GEMM in f32 (GemmForm::kF32).
int64_t gemm_f32_tile_tokens();
int64_t gemm_f32_input_bytes(int64_t n_tokens, int64_t k);
int64_t gemm_f32_panel_bytes(int64_t k);
void gemm_f32_prepare(const GemmPrepareArgs& args);
void gemm_f32_pack_rows(DType dtype, const GemmPackArgs& args);
void gemm_f32_pack_columns(DType dtype, const GemmPackArgs& args);
void gemm_f32_multiply(const GemmProduct& product);
int64_t gemm_f32_multiply_registers(int64_t n);

// GEMM in bf16 (GemmForm::kBF16). REQUIRES: AVX512_BF16.
int64_t gemm_bf16_tile_tokens();
int64_t gemm_bf16_input_bytes(int64_t n_tokens, int64_t k);
int64_t gemm_bf16_panel_bytes(int64_t k);
void gemm_bf16_prepare(const GemmPrepareArgs& args);
void gemm_bf16_pack_rows(DType dtype, const GemmPackArgs& args);
void gemm_bf16_pack_columns(DType dtype, const GemmPackArgs& args);
void gemm_bf16_multiply(const GemmProduct& product);
int64_t gemm_bf16_multiply_registers(int64_t n);

// GEMM in int8 (GemmForm::kQ8 and what follows from it). REQUIRES: AVX512_VNNI.
int64_t gemm_q8_tile_tokens();
int64_t gemm_q8_input_bytes(int64_t n_tokens, int64_t k);
int64_t gemm_q8_panel_bytes(int64_t k);
int64_t gemm_q8_offset_panel_bytes(int64_t k);
void gemm_q8_prepare(const GemmPrepareArgs& args);
void gemm_q8_offset_prepare(const GemmPrepareArgs& args);
void gemm_q8_pack_rows(DType dtype, const GemmPackArgs& args);
void gemm_q8_multiply(const GemmProduct& product);
void gemm_q8_offset_multiply(const GemmProduct& product);
int64_t gemm_q8_halves_input_bytes(int64_t n_tokens, int64_t k);
int64_t gemm_q8_halves_panel_bytes(int64_t k);
void gemm_q8_halves_prepare(const GemmPrepareArgs& args);
void gemm_q8_halves_multiply(const GemmProduct& product);
int64_t gemm_q8_multiply_registers(int64_t n);

// GEMM in fixed point of 16 bits (GemmForm::kI16). REQUIRES: AVX512_VNNI.
int64_t gemm_i16_tile_tokens();
int64_t gemm_i16_input_bytes(int64_t n_tokens, int64_t k);
int64_t gemm_i16_panel_bytes(int64_t k);
void gemm_i16_prepare(const GemmPrepareArgs& args);
void gemm_i16_pack_rows(DType dtype, const GemmPackArgs& args);
void gemm_i16_pack_columns(DType dtype, const GemmPackArgs& args);
void gemm_i16_multiply(const GemmProduct& product);
int64_t gemm_i16_multiply_registers(int64_t n);

// VectorForm::kBF16 and the products with it (BF16). REQUIRES: AVX512_BF16.
int64_t bf16_bytes(int64_t n);
void bf16_prepare(const float* x, int64_t n, void* out);
void bf16_matvec(const MatvecArgs& args);

// REQUIRES: AVX512_VPOPCNTDQ.
void vpopcnt_count_sign_differences(const uint64_t* w, int64_t n_words, const uint64_t* x,
                                    int64_t begin, int64_t end, int32_t* out);

}  // namespace thermocline::avx512
