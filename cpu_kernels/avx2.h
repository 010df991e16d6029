// What the AVX2 translation units offer. They need AVX2, FMA and F16C at run time.
#pragma once

#include "cpu_kernels/kernel_args.h"
#include "cpu_kernels/kernels.h"

namespace thermocline::avx2 {

// Fills in everything but vector_form, prepared_bytes, prepare, matvec and the two of sign bits.
void fill_table(KernelTable* table);
void matvec_float(DType dtype, const MatvecArgs& args);  // x: kF32

// VectorForm::kQ8 of this instruction set, and the products with it.
int64_t q8_bytes(int64_t n);
void prepare_q8(const float* x, int64_t n, Plane plane, void* out);
void matvec_quantised(DType dtype, const MatvecArgs& args);

// VectorForm::kQ8Super and the products with it.
int64_t super_bytes(int64_t n);
void prepare_super(const float* x, int64_t n, Plane plane, void* out);
void matvec_super(DType dtype, const MatvecArgs& args);

// GEMM in f32 (GemmForm::kF32).
int64_t gemm_f32_tile_tokens();
int64_t gemm_f32_input_bytes(int64_t n_tokens, int64_t k);
int64_t gemm_f32_panel_bytes(int64_t k);
void gemm_f32_prepare(const GemmPrepareArgs& args);
void gemm_f32_pack_rows(DType dtype, const GemmPackArgs& args);
void gemm_f32_pack_columns(DType dtype, const GemmPackArgs& args);
void gemm_f32_multiply(const GemmProduct& product);
int64_t gemm_f32_multiply_registers(int64_t n);

// GEMM in int8: Q8_0 (GemmForm::kQ8), Q4_0 and Q4_1 (GemmForm::kQ8Offset).
int64_t gemm_q8_tile_tokens();
int64_t gemm_q8_input_bytes(int64_t n_tokens, int64_t k);
void gemm_q8_offset_prepare(const GemmPrepareArgs& args);
int64_t gemm_q8_offset_panel_bytes(int64_t k);
void gemm_q8_pack_rows(DType dtype, const GemmPackArgs& args);
void gemm_q8_offset_multiply(const GemmProduct& product);
int64_t gemm_q8_halves_input_bytes(int64_t n_tokens, int64_t k);
void gemm_q8_halves_prepare(const GemmPrepareArgs& args);
int64_t gemm_q8_halves_panel_bytes(int64_t k);
void gemm_q8_halves_multiply(const GemmProduct& product);
void gemm_q8_wide_multiply(const GemmProduct& product);
int64_t gemm_q8_halves_multiply_registers(int64_t n);
int64_t gemm_q8_multiply_registers(int64_t n);
void gemm_q8_centred_prepare(const GemmPrepareArgs& args);
int64_t gemm_q8_centred_panel_bytes(int64_t k);
void gemm_q8_centred_multiply(const GemmProduct& product);
// Weights of eight bits, and activations, multiplied in 16.
int64_t gemm_pairs_input_bytes(int64_t n_tokens, int64_t k);
void gemm_pairs_prepare(const GemmPrepareArgs& args);
int64_t gemm_pairs_panel_bytes(int64_t k);
void gemm_pairs_multiply(const GemmProduct& product);
int64_t gemm_pairs_multiply_registers(int64_t n);

// The same products of the same activations. REQUIRES: AVX-VNNI.
void vnni_matvec_quantised(DType dtype, const MatvecArgs& args);
void gemm_vnni_prepare(const GemmPrepareArgs& args);
int64_t gemm_vnni_panel_bytes(int64_t k);
int64_t gemm_vnni_offset_panel_bytes(int64_t k);
void gemm_vnni_pack_rows(DType dtype, const GemmPackArgs& args);
void gemm_vnni_multiply(const GemmProduct& product);
void gemm_vnni_offset_multiply(const GemmProduct& product);
int64_t gemm_vnni_halves_panel_bytes(int64_t k);
void gemm_vnni_halves_multiply(const GemmProduct& product);
int64_t gemm_vnni_multiply_registers(int64_t n);

// Work on sign bits (also in the tables of wider units).
void pack_signs(const float* x, int64_t n, uint64_t* words);
void count_sign_differences(const uint64_t* w, int64_t n_words, const uint64_t* x, int64_t begin,
                            int64_t end, int32_t* out);

}  // namespace thermocline::avx2
