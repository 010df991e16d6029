// THERMOCLINE_FORCE_ISA is read once per process, so every case runs in its own.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "cpu_kernels/kernels.h"
#include "runtime/core/error.h"
#include "tests/cpu_kernels/kernel_reference.h"

namespace thermocline {
namespace {

[[noreturn]] void ChooseAndExit(const char* forced) {
  if (forced == nullptr) {
    unsetenv("THERMOCLINE_FORCE_ISA");
  } else {
    setenv("THERMOCLINE_FORCE_ISA", forced, 1);
  }
  try {
    const KernelTable& kernels = CpuKernels();
    std::fprintf(stderr, "chosen: %s", std::string(kernels.features).c_str());
    std::exit(0);
  } catch (const Error& error) {
    std::fprintf(stderr, "error: %s", error.what());
    std::exit(1);
  }
}

class DispatchTest : public ::testing::Test {
 protected:
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
  static bool has(std::string_view isa) {
    for (const KernelTable* table : AvailableCpuKernels()) {
      if (table->isa == isa) return true;
    }
    return false;
  }
};

TEST_F(DispatchTest, EveryTableIsComplete) {
  ASSERT_FALSE(AvailableCpuKernels().empty());
  EXPECT_EQ(AvailableCpuKernels().front()->isa, "scalar");
  for (const KernelTable* table : testing::TablesOfAllBits()) {
    EXPECT_TRUE(table->vector_form && table->prepared_bytes && table->prepare && table->matvec);
    EXPECT_TRUE(table->prepare_rest && table->matvec_tokens && table->accumulate_tokens);
    EXPECT_TRUE(table->accumulate_rows && table->dequantize_f32);
    EXPECT_TRUE(table->f32_to_f16 && table->f32_to_bf16 && table->rms_norm && table->rope);
    EXPECT_TRUE(table->exp_scores && table->activate && table->multiply);
    EXPECT_TRUE(table->f32_to_q8_0 && table->add && table->compact_nonzero && table->sum_words);
    if (table->gemm != nullptr) {
      const GemmKernels& gemm = *table->gemm;
      EXPECT_TRUE(gemm.rows_form && gemm.columns_form && gemm.tile_tokens && gemm.input_bytes);
      EXPECT_TRUE(gemm.prepare && gemm.panel_bytes && gemm.pack_rows && gemm.pack_columns);
      EXPECT_TRUE(gemm.prepare_rest && gemm.multiply && gemm.multiply_registers);
    }
    EXPECT_TRUE(table->pack_signs && table->count_sign_differences);
    EXPECT_EQ(table->features.substr(0, table->isa.size()), table->isa);
  }
}

TEST_F(DispatchTest, TakesTheBestUnlessForced) {
  const std::string best(AvailableCpuKernels().back()->features);
  EXPECT_EXIT(ChooseAndExit(nullptr), ::testing::ExitedWithCode(0), "chosen: " + best + "$");
  EXPECT_EXIT(ChooseAndExit(""), ::testing::ExitedWithCode(0), "chosen: " + best + "$");
}

TEST_F(DispatchTest, ForcedNameIsObeyedOrRefused) {
  for (const char* name : {"scalar", "avx2", "avx512"}) {
    if (has(name)) {
      EXPECT_EXIT(ChooseAndExit(name), ::testing::ExitedWithCode(0),
                  std::string("chosen: ") + name);
    } else {
      EXPECT_EXIT(ChooseAndExit(name), ::testing::ExitedWithCode(1),
                  std::string("error: .*lacks.*one of scalar.*") + name);
    }
  }
}

// The tests of kernels run with what the processor has. What the kernel of the system says it has
// must be offered, and what it lacks must be seen to be missing.
TEST_F(DispatchTest, EveryInstructionSetOfTheProcessorIsOffered) {
  std::string missing;
  for (const std::string name : {"scalar", "avx2", "avx512"}) {
    const std::string ask = THERMOCLINE_SOURCE_DIR "/tools/instruction_sets " + name;
    EXPECT_EQ(has(name), std::system(ask.c_str()) == 0) << name;
    if (!has(name)) missing += std::string(missing.empty() ? "" : " and ") + name;
  }
  if (!missing.empty()) {
    GTEST_SKIP() << "this processor has no " << missing << ": those kernels were not tested";
  }
}

TEST_F(DispatchTest, ATableIsForcedByItsFeatures) {
  for (const KernelTable* table : AvailableCpuKernels()) {
    if (table->features == table->isa) continue;  // an instruction set's name: see above
    const std::string features(table->features);
    EXPECT_EXIT(ChooseAndExit(features.c_str()), ::testing::ExitedWithCode(0),
                "chosen: " + features + "$");
  }
}

TEST_F(DispatchTest, UnknownNameIsAnErrorThatListsWhatIsThere) {
  EXPECT_EXIT(ChooseAndExit("sse9"), ::testing::ExitedWithCode(1),
              "error: THERMOCLINE_FORCE_ISA names an unknown.*one of scalar.*sse9");
  EXPECT_EXIT(ChooseAndExit("AVX2"), ::testing::ExitedWithCode(1), "error: .*unknown");
}

}  // namespace
}  // namespace thermocline
