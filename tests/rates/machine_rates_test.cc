#include "runtime/rates/machine_rates.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <vector>

#include "runtime/core/error.h"
#include "tests/rates/fixed_rates.h"
#include "tests/support/message_of.h"
#include "tests/support/temp_dir.h"

namespace thermocline {
namespace {

using testing::HasSubstr;

TEST(MachineRatesTest, ValuesLieOnTheLinesBetweenPoints) {
  const std::vector<double> at = {1, 2, 4};
  const std::vector<double> values = {10, 20, 60};
  EXPECT_EQ(ValueAt(at, values, 0), 10);
  EXPECT_EQ(ValueAt(at, values, 1), 10);
  EXPECT_EQ(ValueAt(at, values, 1.5), 15);
  EXPECT_EQ(ValueAt(at, values, 3), 40);
  EXPECT_EQ(ValueAt(at, values, 4), 60);
  EXPECT_EQ(ValueAt(at, values, 100), 60);
}

TEST(MachineRatesTest, ProductsTakeWhatWasMeasuredAndGrowWithRows) {
  const MachineRates rates = FixedRates();
  const double one = rates.LinearSeconds({DType::kQ8_0, 4096}, 1, 1, 1e6);
  // 34 bytes per 32 weights at 10 GB/s, and 1.05 for the row.
  EXPECT_NEAR(one, 1e6 * 34 / 32 / 10e9 * 1.05, 1e-12);
  EXPECT_NEAR(rates.LinearSeconds({DType::kQ8_0, 4096}, 2, 1, 1e6), one / 2, 1e-12);
  EXPECT_NEAR(rates.LinearSeconds({DType::kQ8_0, 4096}, 1, 1, 3e6), 3 * one, 1e-12);
  double last = 0;
  for (const int64_t rows : {1, 2, 3, 4, 10, 64, 256, 300, 512}) {
    const double seconds = rates.LinearSeconds({DType::kQ8_0, 4096}, 2, rows, 1e6);
    EXPECT_GT(seconds, last) << rows;
    last = seconds;
  }
  // Beyond the last rows measured, in proportion.
  EXPECT_NEAR(rates.LinearSeconds({DType::kQ8_0, 4096}, 2, 512, 1e6),
              2 * rates.LinearSeconds({DType::kQ8_0, 4096}, 2, 256, 1e6), 1e-12);
}

TEST(MachineRatesTest, GatheringIsAShareByRowAndDensity) {
  const MachineRates rates = FixedRates();
  EXPECT_DOUBLE_EQ(rates.LinearGather(512, 0.1), 0.5);
  EXPECT_DOUBLE_EQ(rates.LinearGather(100, 0.01), 0.5);
  EXPECT_DOUBLE_EQ(rates.LinearGather(4096, 1), 1);
  EXPECT_DOUBLE_EQ(rates.LinearGather(2304, 0.3), (0.6 + 0.85) / 2);
  EXPECT_DOUBLE_EQ(rates.SumGather(1 << 20, 0.5), 0.95);
}

TEST(MachineRatesTest, WhatIsBoundByReadingFollowsTheMemory) {
  const MachineRates rates = FixedRates();
  const RateKey key{DType::kQ8_0, 4096};
  const MachineRates half = rates.WithMemoryAt(std::vector<double>{1, 0.5, 0.5, 0.5});
  EXPECT_DOUBLE_EQ(half.ReadBytesPerSecond(2), 10e9);
  // A row reads at 20 / 1.05 GB/s, and 64 rows at 20 / 4.2: the latter waits for arithmetic.
  EXPECT_DOUBLE_EQ(half.LinearSeconds(key, 2, 1, 1e6), 2 * rates.LinearSeconds(key, 2, 1, 1e6));
  EXPECT_DOUBLE_EQ(half.LinearSeconds(key, 2, 64, 1e6), rates.LinearSeconds(key, 2, 64, 1e6));
  EXPECT_DOUBLE_EQ(half.SumSeconds(key, 2, 1e6), 2 * rates.SumSeconds(key, 2, 1e6));
  EXPECT_DOUBLE_EQ(half.LinearSeconds(key, 1, 1, 1e6), rates.LinearSeconds(key, 1, 1, 1e6));
  EXPECT_DOUBLE_EQ(half.CachedSeconds(key, 2, 1e6), rates.CachedSeconds(key, 2, 1e6));
  // Ten times the memory helps as far as arithmetic goes: four times the rate of reading.
  const MachineRates faster = rates.WithMemoryAt(std::vector<double>{10, 10, 10, 10});
  EXPECT_DOUBLE_EQ(faster.LinearSeconds(key, 2, 1, 1e6), rates.CachedSeconds(key, 2, 1e6));
}

TEST(MachineRatesTest, AnotherMachinesRatesAreRefusedWithBoth) {
  MachineRates rates = FixedRates();
  EXPECT_EQ(MessageOf([&] { CheckRatesFit(rates, ThisMachine()); }), "");
  rates.path = "other.rates.gguf";
  rates.machine.cpu = "Another CPU";
  EXPECT_THAT(MessageOf([&] { CheckRatesFit(rates, ThisMachine()); }),
              AllOf(HasSubstr("other.rates.gguf"), HasSubstr("another machine"),
                    HasSubstr("Another CPU"), HasSubstr(ThisMachine().isa)));
  for (const auto part : {&MachineIdentity::isa, &MachineIdentity::cores, &MachineIdentity::gpu}) {
    rates.machine = ThisMachine();
    rates.machine.*part += "x";
    EXPECT_NE(MessageOf([&] { CheckRatesFit(rates, ThisMachine()); }), "");
  }
}

TEST(MachineRatesTest, TheCpuIsNamedAsTheSystemNamesIt) {
  const TempDir root;
  std::filesystem::create_directories(root.file("proc"));
  std::ofstream(root.file("proc/cpuinfo")) << "processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\n";
  EXPECT_EQ(ThisMachine(root.path()).cpu, "Some CPU @ 3 GHz");
  EXPECT_EQ(ThisMachine(root.file("none")).cpu, "");
}

TEST(MachineRatesTest, EveryMachineHasAFileOfItsOwn) {
  ASSERT_EQ(setenv("XDG_CACHE_HOME", "/somewhere", 1), 0);
  MachineIdentity machine = ThisMachine();
  const std::string path = RatesCachePath(machine);
  EXPECT_THAT(path, testing::StartsWith("/somewhere/thermocline/"));
  machine.cores += ",99";
  EXPECT_NE(RatesCachePath(machine), path);
  ASSERT_EQ(setenv("XDG_CACHE_HOME", "relative", 1), 0);  // the XDG specification: ignore it
  ASSERT_EQ(setenv("HOME", "/of", 1), 0);
  EXPECT_THAT(RatesCachePath(machine), testing::StartsWith("/of/.cache/thermocline/"));
  ASSERT_EQ(unsetenv("HOME"), 0);
  EXPECT_EQ(RatesCachePath(machine), "");
}

}  // namespace
}  // namespace thermocline
