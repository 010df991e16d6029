#include "cpu_kernels/gemm_tables.h"

#if defined(THERMOCLINE_X86)
#include "cpu_kernels/avx2.h"
#include "cpu_kernels/avx512.h"
#include "cpu_kernels/kernel_args.h"

namespace thermocline {
namespace {

// The kernels of one form.
struct FormKernels {
  int64_t (*tile_tokens)();
  int64_t (*input_bytes)(int64_t n_tokens, int64_t k);
  int64_t (*panel_bytes)(int64_t k);
  void (*prepare)(const GemmPrepareArgs& args);
  void (*pack_rows)(DType dtype, const GemmPackArgs& args);
  void (*pack_columns)(DType dtype, const GemmPackArgs& args);
  void (*multiply)(const GemmProduct& product);
  int64_t (*multiply_registers)(int64_t n);
};

constexpr FormKernels kNone = {};  // a form that the table never chooses

constexpr FormKernels kAvx512Offset = {
    avx512::gemm_q8_tile_tokens,        avx512::gemm_q8_input_bytes,
    avx512::gemm_q8_offset_panel_bytes, avx512::gemm_q8_offset_prepare,
    avx512::gemm_q8_pack_rows,          nullptr,
    avx512::gemm_q8_offset_multiply,    avx512::gemm_q8_multiply_registers};

// Int8 products have their blocks along k: nothing sums them over rows.
constexpr FormKernels kAvx512Forms[] = {
    {avx512::gemm_f32_tile_tokens, avx512::gemm_f32_input_bytes, avx512::gemm_f32_panel_bytes,
     avx512::gemm_f32_prepare, avx512::gemm_f32_pack_rows, avx512::gemm_f32_pack_columns,
     avx512::gemm_f32_multiply, avx512::gemm_f32_multiply_registers},
    {avx512::gemm_bf16_tile_tokens, avx512::gemm_bf16_input_bytes, avx512::gemm_bf16_panel_bytes,
     avx512::gemm_bf16_prepare, avx512::gemm_bf16_pack_rows, avx512::gemm_bf16_pack_columns,
     avx512::gemm_bf16_multiply, avx512::gemm_bf16_multiply_registers},
    {avx512::gemm_q8_tile_tokens, avx512::gemm_q8_input_bytes, avx512::gemm_q8_panel_bytes,
     avx512::gemm_q8_prepare, avx512::gemm_q8_pack_rows, nullptr, avx512::gemm_q8_multiply,
     avx512::gemm_q8_multiply_registers},
    {avx512::gemm_i16_tile_tokens, avx512::gemm_i16_input_bytes, avx512::gemm_i16_panel_bytes,
     avx512::gemm_i16_prepare, avx512::gemm_i16_pack_rows, avx512::gemm_i16_pack_columns,
     avx512::gemm_i16_multiply, avx512::gemm_i16_multiply_registers},
    kAvx512Offset,
    kAvx512Offset,
    {avx512::gemm_q8_tile_tokens, avx512::gemm_q8_halves_input_bytes,
     avx512::gemm_q8_halves_panel_bytes, avx512::gemm_q8_halves_prepare, avx512::gemm_q8_pack_rows,
     nullptr, avx512::gemm_q8_halves_multiply, avx512::gemm_q8_multiply_registers},
    kNone,
};

constexpr FormKernels kAvx2F32 = {avx2::gemm_f32_tile_tokens, avx2::gemm_f32_input_bytes,
                                  avx2::gemm_f32_panel_bytes, avx2::gemm_f32_prepare,
                                  avx2::gemm_f32_pack_rows,   avx2::gemm_f32_pack_columns,
                                  avx2::gemm_f32_multiply,    avx2::gemm_f32_multiply_registers};

constexpr FormKernels kAvx2Forms[] = {
    kAvx2F32,
    kNone,
    {avx2::gemm_q8_tile_tokens, avx2::gemm_pairs_input_bytes, avx2::gemm_pairs_panel_bytes,
     avx2::gemm_pairs_prepare, avx2::gemm_q8_pack_rows, nullptr, avx2::gemm_pairs_multiply,
     avx2::gemm_pairs_multiply_registers},
    kNone,
    {avx2::gemm_q8_tile_tokens, avx2::gemm_q8_input_bytes, avx2::gemm_q8_offset_panel_bytes,
     avx2::gemm_q8_offset_prepare, avx2::gemm_q8_pack_rows, nullptr, avx2::gemm_q8_offset_multiply,
     avx2::gemm_q8_multiply_registers},
    {avx2::gemm_q8_tile_tokens, avx2::gemm_q8_input_bytes, avx2::gemm_q8_offset_panel_bytes,
     avx2::gemm_q8_offset_prepare, avx2::gemm_q8_pack_rows, nullptr, avx2::gemm_q8_wide_multiply,
     avx2::gemm_q8_multiply_registers},
    {avx2::gemm_q8_tile_tokens, avx2::gemm_q8_halves_input_bytes, avx2::gemm_q8_halves_panel_bytes,
     avx2::gemm_q8_halves_prepare, avx2::gemm_q8_pack_rows, nullptr, avx2::gemm_q8_halves_multiply,
     avx2::gemm_q8_halves_multiply_registers},
    {avx2::gemm_q8_tile_tokens, avx2::gemm_q8_halves_input_bytes, avx2::gemm_q8_centred_panel_bytes,
     avx2::gemm_q8_centred_prepare, avx2::gemm_q8_pack_rows, nullptr,
     avx2::gemm_q8_centred_multiply, avx2::gemm_q8_halves_multiply_registers},
};
constexpr FormKernels kAvx2VnniOffset = {
    avx2::gemm_q8_tile_tokens,          avx2::gemm_q8_input_bytes,
    avx2::gemm_vnni_offset_panel_bytes, avx2::gemm_q8_offset_prepare,
    avx2::gemm_vnni_pack_rows,          nullptr,
    avx2::gemm_vnni_offset_multiply,    avx2::gemm_vnni_multiply_registers};
constexpr FormKernels kAvx2VnniForms[] = {
    kAvx2F32,
    kNone,
    {avx2::gemm_q8_tile_tokens, avx2::gemm_q8_input_bytes, avx2::gemm_vnni_panel_bytes,
     avx2::gemm_vnni_prepare, avx2::gemm_vnni_pack_rows, nullptr, avx2::gemm_vnni_multiply,
     avx2::gemm_vnni_multiply_registers},
    kNone,
    kAvx2VnniOffset,
    kAvx2VnniOffset,
    {avx2::gemm_q8_tile_tokens, avx2::gemm_q8_halves_input_bytes,
     avx2::gemm_vnni_halves_panel_bytes, avx2::gemm_q8_halves_prepare, avx2::gemm_vnni_pack_rows,
     nullptr, avx2::gemm_vnni_halves_multiply, avx2::gemm_vnni_multiply_registers},
    kNone,
};

template <bool kVnni>
struct Avx2Choice {
  static GemmForm rows_form(DType weights) {
    if (!has_quantised_dot(weights)) return GemmForm::kF32;
    return kVnni ? integer_form(weights) : avx2_form(weights);
  }
  static GemmForm columns_form(DType /*weights*/) { return GemmForm::kF32; }
};

// With AVX-512 Q4_0 takes all of its bytes.
template <bool kVnni, bool kBf16>
struct Avx512Choice {
  static GemmForm rows_form(DType weights) {
    if (has_quantised_dot(weights)) {
      if (!kVnni) return GemmForm::kF32;
      return weights == DType::kQ4_0 ? GemmForm::kQ8 : integer_form(weights);
    }
    if (weights == DType::kF16 && kVnni) return GemmForm::kI16;
    return weights == DType::kBF16 && kBf16 ? GemmForm::kBF16 : GemmForm::kF32;
  }
  // F16 has more precision than bf16, and so have the weights that F32 was chosen for.
  static GemmForm columns_form(DType weights) {
    if (kVnni && weights == DType::kF16) return GemmForm::kI16;
    const bool precise = weights == DType::kF32 || weights == DType::kF16;
    return kBf16 && !precise ? GemmForm::kBF16 : GemmForm::kF32;
  }
};

template <class Choice, const auto& kForms>
struct Entries : Choice {
  static const FormKernels& kernels_of(GemmForm form) { return kForms[static_cast<size_t>(form)]; }
  static int64_t tile_tokens(GemmForm form) { return kernels_of(form).tile_tokens(); }
  static int64_t input_bytes(GemmForm form, int64_t n_tokens, int64_t k) {
    const FormKernels& kernels = kernels_of(form);
    return kernels.input_bytes == nullptr ? 0 : (kernels.input_bytes(n_tokens, k) + 63) / 64 * 64;
  }
  static void prepare(GemmForm form, const float* x, int64_t n_tokens, int64_t k,
                      int64_t tile_begin, int64_t tile_end, std::byte* out) {
    kernels_of(form).prepare({x, n_tokens, k, tile_begin, tile_end, out});
  }
  static void prepare_rest(GemmForm form, const float* x, int64_t n_tokens, int64_t k,
                           int64_t tile_begin, int64_t tile_end, std::byte* out) {
    kernels_of(form).prepare({x, n_tokens, k, tile_begin, tile_end, out, Plane::kRest});
  }
  static int64_t panel_bytes(GemmForm form, int64_t k) { return kernels_of(form).panel_bytes(k); }
  static void pack_rows(GemmForm form, DType dtype, const std::byte* w, int64_t row_stride_bytes,
                        int64_t n_rows, int64_t k_begin, int64_t k_end, const RowsAhead& ahead,
                        std::byte* panels) {
    kernels_of(form).pack_rows(dtype, {w, row_stride_bytes, n_rows, k_begin, k_end, ahead, panels});
  }
  static void pack_columns(GemmForm form, DType dtype, const std::byte* w, int64_t row_stride_bytes,
                           int64_t n_rows, int64_t col_begin, int64_t col_end, std::byte* panels) {
    kernels_of(form).pack_columns(dtype,
                                  {w, row_stride_bytes, n_rows, col_begin, col_end, {}, panels});
  }
  static void multiply(const GemmProduct& product) { kernels_of(product.form).multiply(product); }
  static int64_t multiply_registers(GemmForm form, int64_t n) {
    return kernels_of(form).multiply_registers(n);
  }
};

template <class E>
constexpr GemmKernels kKernels = {E::rows_form,   E::columns_form,      E::tile_tokens,
                                  E::input_bytes, E::prepare,           E::prepare_rest,
                                  E::panel_bytes, E::pack_rows,         E::pack_columns,
                                  E::multiply,    E::multiply_registers};

}  // namespace

const GemmKernels& avx2_gemm() { return kKernels<Entries<Avx2Choice<false>, kAvx2Forms>>; }
const GemmKernels& avx2_vnni_gemm() { return kKernels<Entries<Avx2Choice<true>, kAvx2VnniForms>>; }
const GemmKernels& avx512_gemm() {
  return kKernels<Entries<Avx512Choice<false, false>, kAvx512Forms>>;
}
const GemmKernels& avx512_vnni_gemm() {
  return kKernels<Entries<Avx512Choice<true, false>, kAvx512Forms>>;
}
const GemmKernels& avx512_vnni_bf16_gemm() {
  return kKernels<Entries<Avx512Choice<true, true>, kAvx512Forms>>;
}

}  // namespace thermocline
#endif
