#include "runtime/rates/measure_rates.h"

#include <gtest/gtest.h>

#include "gpu_kernels/base/gpu_support.h"
#include "tests/support/temp_dir.h"

namespace thermocline {
namespace {

// What is measured is what a file takes: as many numbers as it asks for, all of them rates.
TEST(MeasureRatesTest, MeasuresWhatAFileHolds) {
  const TempDir dir;
  MeasureOptions options;
  options.n_threads = 2;
  options.types = {{DType::kQ4_0, 2048}};
  options.quick = true;
  options.storage_folder = dir.path();
  MachineRates rates = MeasureRates(options);
  EXPECT_EQ(rates.machine, ThisMachine());
  EXPECT_EQ(rates.host.thread_counts, (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(rates.host.mapped_bytes_per_s.size(), 2U);
  EXPECT_TRUE(rates.HasType(DType::kQ4_0));
  EXPECT_FALSE(rates.HasType(DType::kQ4_1));
  const GpuSupport gpu = QueryGpuSupport();
  ASSERT_EQ(rates.gpu.has_value(), gpu.available);
  if (gpu.available) {
    EXPECT_EQ(rates.gpu->emulated, gpu.emulated);
    EXPECT_EQ(rates.gpu->types.size(), 1U);
  }
  EXPECT_EQ(dir.n_entries(), 0U);  // what storage was measured with is gone

  const std::vector<RateKey> wanted = {{DType::kQ4_1, 96}, {DType::kQ4_0, 2048}};
  EXPECT_TRUE(AddMissingTypes(wanted, true, &rates));
  EXPECT_TRUE(rates.HasType(DType::kQ4_1));
  EXPECT_FALSE(AddMissingTypes(wanted, true, &rates));
  WriteRates(dir.file("m.rates.gguf"), rates);
  const MachineRates read = ReadRates(dir.file("m.rates.gguf"));
  EXPECT_EQ(read.host.types.size(), 2U);
  EXPECT_EQ(read.host.linear_gather.size(),
            read.host.gather_density.size() * read.host.gather_row_bytes.size());
}

}  // namespace
}  // namespace thermocline
