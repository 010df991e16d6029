#include "cpu_kernels/tables.h"

#include <cstring>
#include <vector>

#include "cpu_kernels/gemm_tables.h"
#include "cpu_kernels/kernel_args.h"
#include "cpu_kernels/prefetch_plan.h"
#include "cpu_kernels/scalar.h"
#include "runtime/core/error.h"
#if defined(THERMOCLINE_X86)
#include <cpuid.h>

#include "cpu_kernels/avx2.h"
#include "cpu_kernels/avx2_channels.h"
#include "cpu_kernels/avx512.h"
#endif

namespace thermocline {
namespace {

KernelTable scalar_table() {
  KernelTable table{};
  table.isa = "scalar";
  table.features = "scalar";
  table.vector_form = scalar::vector_form;
  table.prepared_bytes = scalar::prepared_bytes;
  table.prepare = scalar::prepare;
  table.prepare_rest = scalar::prepare_rest;
  table.matvec = scalar::matvec;
  table.accumulate_rows = scalar::accumulate_rows;
  table.matvec_tokens = scalar::matvec_tokens;
  table.accumulate_channels = scalar::accumulate_rows;
  table.accumulate_tokens = scalar::accumulate_tokens;
  table.dequantize_f32 = scalar::dequantize_f32;
  table.f32_to_f16 = scalar::f32_to_f16_row;
  table.f32_to_bf16 = scalar::f32_to_bf16_row;
  table.f32_to_q8_0 = scalar::f32_to_q8_0_row;
  table.rms_norm = scalar::rms_norm;
  table.layer_norm = scalar::layer_norm;
  table.rope = scalar::rope;
  table.exp_scores = scalar::exp_scores;
  table.activate = scalar::activate;
  table.drop_below = scalar::drop_below;
  table.cut_below = scalar::cut_below;
  table.scale = scalar::scale;
  table.multiply = scalar::multiply;
  table.add = scalar::add;
  table.compact_nonzero = scalar::compact_nonzero;
  table.pack_signs = scalar::pack_signs;
  table.count_sign_differences = scalar::count_sign_differences;
  table.sum_words = scalar::sum_words;
  return table;
}

#if defined(THERMOCLINE_X86)

// Fills in the entries that depend on which extensions there are, put together from the parts of an
// ISA.
template <class Parts>
struct Composed {
  static VectorForm vector_form(DType weights) {
    if (Parts::kSuper && takes_super_vector(weights)) return VectorForm::kQ8Super;
    if (has_quantised_dot(weights)) return VectorForm::kQ8;
    return weights == DType::kBF16 && Parts::kBf16 ? VectorForm::kBF16 : VectorForm::kF32;
  }

  static int64_t prepared_bytes(VectorForm form, int64_t n) {
    if (form == VectorForm::kQ8) return Parts::kQ8Bytes(n);
    if (form == VectorForm::kQ8Super) return avx2::super_bytes(n);
    if (form == VectorForm::kBF16) return avx512::bf16_bytes(n);
    return (n * 4 + 63) / 64 * 64;
  }

  static void prepare(VectorForm form, const float* x, int64_t n, void* out) {
    if (form == VectorForm::kQ8) return Parts::kPrepareQ8(x, n, Plane::kRounded, out);
    if (form == VectorForm::kQ8Super) return avx2::prepare_super(x, n, Plane::kRounded, out);
    if (form == VectorForm::kBF16) return avx512::bf16_prepare(x, n, out);
    std::memcpy(out, x, static_cast<size_t>(n) * 4);
  }

  static void prepare_rest(VectorForm form, const float* x, int64_t n, void* out) {
    if (form == VectorForm::kQ8) return Parts::kPrepareQ8(x, n, Plane::kRest, out);
    CHECK(form == VectorForm::kQ8Super);
    avx2::prepare_super(x, n, Plane::kRest, out);
  }

  static void matvec(DType dtype, const std::byte* w, int64_t row_stride_bytes, int64_t n_cols,
                     const void* x, const int32_t* rows, int64_t begin, int64_t end, float* out) {
    matvec_tokens(dtype, {w, row_stride_bytes, n_cols, x, rows, begin, end, out});
  }

  static void matvec_tokens(DType dtype, const MatvecArgs& args) {
    if (args.begin >= args.end) return;
    switch (vector_form(dtype)) {
      case VectorForm::kQ8:
        return Parts::kMatvecQuantised(dtype, args);
      case VectorForm::kQ8Super:
        return avx2::matvec_super(dtype, args);
      case VectorForm::kBF16:
        return avx512::bf16_matvec(args);
      case VectorForm::kF32:
        return Parts::kMatvecFloat(dtype, args);
    }
  }

  static void fill(KernelTable* table) {
    table->vector_form = vector_form;
    table->prepared_bytes = prepared_bytes;
    table->prepare = prepare;
    table->prepare_rest = prepare_rest;
    table->matvec = matvec;
    table->matvec_tokens = matvec_tokens;
  }
};

struct Avx2Parts {
  static constexpr bool kBf16 = false;
  static constexpr bool kSuper = true;
  static constexpr auto kQ8Bytes = avx2::q8_bytes;
  static constexpr auto kPrepareQ8 = avx2::prepare_q8;
  static constexpr auto kMatvecQuantised = avx2::matvec_quantised;
  static constexpr auto kMatvecFloat = avx2::matvec_float;
};

struct Avx2VnniParts : Avx2Parts {
  static constexpr bool kSuper = false;
  static constexpr auto kMatvecQuantised = avx2::vnni_matvec_quantised;
};

// Without VNNI, products of bytes gain nothing from wider registers that would be worth a third
// version of them: the AVX2 one serves.
struct Avx512Parts : Avx2Parts {
  static constexpr auto kMatvecFloat = avx512::matvec_float;
};

struct Avx512VnniParts : Avx512Parts {
  static constexpr bool kSuper = false;
  static constexpr auto kQ8Bytes = avx512::vnni_q8_bytes;
  static constexpr auto kPrepareQ8 = avx512::vnni_prepare_q8;
  static constexpr auto kMatvecQuantised = avx512::vnni_matvec_quantised;
};

struct Avx512VnniBf16Parts : Avx512VnniParts {
  static constexpr bool kBf16 = true;
};

template <class Parts>
KernelTable table_of(std::string_view isa, std::string_view features,
                     void (*fill_shared)(KernelTable*), const GemmKernels* gemm) {
  KernelTable table{};
  table.isa = isa;
  table.features = features;
  table.gemm = gemm;
  fill_shared(&table);
  table.pack_signs = avx2::pack_signs;
  table.count_sign_differences = avx2::count_sign_differences;
  Composed<Parts>::fill(&table);
  return table;
}

// Asks the processor itself, as F16C is not among the names that every compiler's
// __builtin_cpu_supports knows.
bool has_f16c() {
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}

// __builtin_cpu_supports also asks whether the system saves the registers.
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
}

// AVX-VNNI, 256 bits wide, which processors without AVX-512 may have.
bool has_avx_vnni() {
  constexpr unsigned kAvxVnni = 1U << 4;
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  return __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 && (eax & kAvxVnni) != 0;
}

bool is_amd() { return __builtin_cpu_is("amd"); }

bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512cd");
}

void append_x86_tables(std::vector<KernelTable>* tables) {
  if (!has_avx2()) return;
  tables->push_back(table_of<Avx2Parts>("avx2", "avx2 fma f16c", avx2::fill_table, &avx2_gemm()));
  if (has_avx_vnni()) {
    const auto fill_vnni = [](KernelTable* table) {
      avx2::fill_table(table);
      table->accumulate_channels = avx2::vnni_accumulate_channels;
    };
    tables->push_back(
        table_of<Avx2VnniParts>("avx2", "avx2 fma f16c vnni", fill_vnni, &avx2_vnni_gemm()));
  }
  if (!has_avx512()) return;
  tables->push_back(table_of<Avx512Parts>("avx512", "avx512", avx512::fill_table, &avx512_gemm()));
  if (!__builtin_cpu_supports("avx512vnni")) return;
  const auto fill_vnni = [](KernelTable* table) {
    avx512::fill_table(table);
    table->accumulate_channels = avx512::vnni_accumulate_channels;
  };
  tables->push_back(
      table_of<Avx512VnniParts>("avx512", "avx512 vnni", fill_vnni, &avx512_vnni_gemm()));
  if (!__builtin_cpu_supports("avx512bf16")) return;
  tables->push_back(table_of<Avx512VnniBf16Parts>("avx512", "avx512 vnni bf16", fill_vnni,
                                                  &avx512_vnni_bf16_gemm()));
}

// Gives the last table this extension, which goes with any of them: it is the one in use.
void add_vpopcnt(std::vector<KernelTable>* tables) {
  KernelTable& last = tables->back();
  if (last.isa != "avx512" || !__builtin_cpu_supports("avx512vpopcntdq")) return;
  last.features = last.features == "avx512 vnni bf16" ? "avx512 vnni bf16 vpopcnt"
                  : last.features == "avx512 vnni"    ? "avx512 vnni vpopcnt"
                                                      : "avx512 vpopcnt";
  last.count_sign_differences = avx512::vpopcnt_count_sign_differences;
}

#endif

std::vector<KernelTable> make_tables() {
  std::vector<KernelTable> tables = {scalar_table()};
#if defined(THERMOCLINE_X86)
  append_x86_tables(&tables);
  add_vpopcnt(&tables);
#endif
  return tables;
}

}  // namespace

#if defined(THERMOCLINE_X86)
int64_t four_rows_bytes() {
  static const int64_t n_bytes = is_amd() ? 0 : kFourRowsBytes;
  return n_bytes;
}

// Zen 5 is AMD's first with AVX-VNNI.
bool prefetches_near() {
  static const bool near = !is_amd() || has_avx_vnni();
  return near;
}

bool prefetches_rows_near() {
  static const bool near = is_amd() && has_avx_vnni();
  return near;
}
#endif

std::span<const KernelTable* const> make_available_tables() {
  static const std::vector<KernelTable> tables = make_tables();
  static const std::vector<const KernelTable*> pointers = [] {
    std::vector<const KernelTable*> list;
    for (const KernelTable& table : tables) list.push_back(&table);
    return list;
  }();
  return pointers;
}

}  // namespace thermocline
