#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <functional>

#include "runtime/core/error.h"
#include "runtime/gguf/gguf_writer.h"
#include "tests/rates/fixed_rates.h"
#include "tests/support/message_of.h"
#include "tests/support/temp_dir.h"

namespace thermocline {
namespace {

using testing::HasSubstr;

class RatesFileTest : public testing::Test {
 protected:
  // The message of reading what was written of these rates, or "".
  std::string MessageOfRates(const MachineRates& rates) const {
    WriteRates(path_, rates);
    return MessageOf([&] { ReadRates(path_); });
  }

  TempDir dir_;
  std::string path_ = dir_.file("m.rates.gguf");
};

TEST_F(RatesFileTest, WhatIsWrittenIsRead) {
  for (const bool gpu : {false, true}) {
    MachineRates rates = FixedRates(gpu);
    // Files of older programs have none.
    if (gpu) rates.host.mapped_bytes_per_s = {5e9, 10e9, 20e9, 20e9};
    rates.host.storage_block_bytes = {4096, 65536};
    rates.host.storage_bytes_per_s = {1e8, 1e9};
    rates.noise = {0.9, 0, 1.25};
    WriteRates(path_, rates);
    const MachineRates read = ReadRates(path_);
    EXPECT_EQ(read.path, path_);
    EXPECT_EQ(read.machine, rates.machine);
    EXPECT_EQ(read.measured_at_s, rates.measured_at_s);
    EXPECT_EQ(read.host.thread_counts, rates.host.thread_counts);
    EXPECT_EQ(read.host.read_bytes_per_s, rates.host.read_bytes_per_s);
    EXPECT_EQ(read.host.attend_bytes_per_s, rates.host.attend_bytes_per_s);
    EXPECT_EQ(read.host.mapped_bytes_per_s, rates.host.mapped_bytes_per_s);
    EXPECT_EQ(read.MappedBytesPerSecond(2), gpu ? 10e9 : 20e9);
    EXPECT_EQ(read.host.op_us, rates.host.op_us);
    EXPECT_EQ(read.host.wake_us, rates.host.wake_us);
    EXPECT_EQ(read.host.handover_us, rates.host.handover_us);
    ASSERT_EQ(read.host.types.size(), rates.host.types.size());
    for (size_t i = 0; i < read.host.types.size(); ++i) {
      EXPECT_EQ(read.host.types[i].key, rates.host.types[i].key);
      EXPECT_EQ(read.host.types[i].linear_weights_per_s, rates.host.types[i].linear_weights_per_s);
      EXPECT_EQ(read.host.types[i].ffn_weights_per_s, rates.host.types[i].ffn_weights_per_s);
      EXPECT_EQ(read.host.types[i].cached_weights_per_s, rates.host.types[i].cached_weights_per_s);
      EXPECT_EQ(read.host.types[i].sum_weights_per_s, rates.host.types[i].sum_weights_per_s);
    }
    EXPECT_EQ(read.host.linear_gather, rates.host.linear_gather);
    EXPECT_EQ(read.host.sum_gather, rates.host.sum_gather);
    EXPECT_EQ(read.host.storage_bytes_per_s, rates.host.storage_bytes_per_s);
    EXPECT_TRUE(read.noise.disturbed());
    ASSERT_EQ(read.gpu.has_value(), gpu);
    if (!gpu) continue;
    EXPECT_EQ(read.gpu->read_bytes_per_s, rates.gpu->read_bytes_per_s);
    EXPECT_EQ(read.gpu->handover_us, rates.gpu->handover_us);
    EXPECT_EQ(read.gpu->types.size(), rates.gpu->types.size());
    EXPECT_FALSE(read.gpu->emulated);
  }
}

TEST_F(RatesFileTest, NumbersThatCannotBeAreErrors) {
  const std::pair<std::function<void(MachineRates*)>, const char*> cases[] = {
      {[](MachineRates* r) { r->host.read_bytes_per_s[1] = 0; }, "host.read_bytes_per_s"},
      {[](MachineRates* r) { r->host.mapped_bytes_per_s = {1e9}; }, "host.mapped_bytes_per_s"},
      {[](MachineRates* r) {
         r->host.mapped_bytes_per_s = {1e9, 1e9, 0, 1e9};
       },
       "host.mapped_bytes_per_s"},
      {[](MachineRates* r) { r->host.op_us[0] = -1; }, "host.op_us"},
      {[](MachineRates* r) { r->host.wake_us[0] = std::nan(""); }, "host.wake_us"},
      {[](MachineRates* r) { r->host.handover_us[0] = INFINITY; }, "host.handover_us"},
      {[](MachineRates* r) { r->host.attend_bytes_per_s.pop_back(); }, "host.attend_bytes_per_s"},
      {[](MachineRates* r) {
         r->host.thread_counts = {1, 2, 2, 8};
       },
       "ascending"},
      {[](MachineRates* r) {
         r->host.thread_counts = {2, 3, 4, 8};
       },
       "1 first"},
      {[](MachineRates* r) { r->host.gather_density = {}; }, "host.gather_density"},
      {[](MachineRates* r) {
         r->host.gather_density = {0.5, 0.1, 1};
       },
       "ascending"},
      {[](MachineRates* r) { r->host.linear_gather.push_back(1); }, "host.linear_gather"},
      {[](MachineRates* r) { r->host.types[0].linear_weights_per_s.pop_back(); }, "F32"},
      {[](MachineRates* r) { r->host.types[std::size(kFixedCols)].sum_weights_per_s[0] = 0; },
       "F16"},
      {[](MachineRates* r) { r->host.types[std::size(kFixedCols)].cached_weights_per_s.clear(); },
       "F16"},
      {[](MachineRates* r) { r->host.storage_block_bytes = {4096}; }, "host.storage_bytes_per_s"},
      {[](MachineRates* r) { r->gpu->read_bytes_per_s = 0; }, "gpu.rates"},
  };
  for (const auto& [spoil, found] : cases) {
    MachineRates rates = FixedRates(true);
    EXPECT_EQ(MessageOfRates(rates), "");
    spoil(&rates);
    EXPECT_THAT(MessageOfRates(rates), AllOf(HasSubstr(path_), HasSubstr(found)));
  }
}

TEST_F(RatesFileTest, OtherFilesAreNoRates) {
  std::ofstream(path_) << "rates";
  EXPECT_THAT(MessageOf([&] { ReadRates(path_); }), HasSubstr(path_));
  {
    GgufWriter writer(path_);
    writer.Set("general.architecture", GgufValue::string("llama"));
    writer.Finish();
  }
  EXPECT_THAT(MessageOf([&] { ReadRates(path_); }), HasSubstr("not a rates file"));
  {
    GgufWriter writer(path_);
    writer.Set("general.architecture", GgufValue::string("thermocline-rates"));
    writer.Set("thermocline.rates.version", GgufValue::u64(kRatesVersion + 1));
    writer.Finish();
  }
  EXPECT_THAT(MessageOf([&] { ReadRates(path_); }), HasSubstr("thermocline.rates.version"));
}

// A file cut anywhere is an error and nothing worse.
TEST_F(RatesFileTest, CutFilesAreErrors) {
  WriteRates(path_, FixedRates(true));
  const std::string whole = ReadWholeFile(path_);
  for (size_t n = 0; n + 32 < whole.size(); n += 1 + n / 16) {
    std::ofstream(path_, std::ios::binary | std::ios::trunc)
        .write(whole.data(), static_cast<std::streamsize>(n));
    EXPECT_NE(MessageOf([&] { ReadRates(path_); }), "") << n;
  }
}

}  // namespace
}  // namespace thermocline
