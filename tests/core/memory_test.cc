// AlignedBuffer and TensorView.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "runtime/core/aligned_buffer.h"
#include "runtime/core/error.h"
#include "runtime/core/tensor_view.h"

namespace thermocline {
namespace {

TEST(AlignedBuffer, IsAlignedAndZero) {
  for (const uint64_t n_bytes : {1ULL, 4096ULL, 100000ULL, (2ULL << 20) + 1}) {
    AlignedBuffer buffer(n_bytes, "a test");
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % 64, 0U);
    EXPECT_EQ(buffer.size(), n_bytes);
    EXPECT_TRUE(std::all_of(buffer.bytes(), buffer.bytes() + n_bytes,
                            [](std::byte b) { return b == std::byte{0}; }));
    buffer.as<char>()[n_bytes - 1] = 'x';
  }
}

TEST(AlignedBuffer, OfNothing) {
  const AlignedBuffer buffer(0, "a test");
  EXPECT_EQ(buffer.data(), nullptr);
  EXPECT_EQ(buffer.size(), 0U);
}

TEST(AlignedBuffer, Moves) {
  AlignedBuffer from(100, "a test");
  void* data = from.data();
  AlignedBuffer to = std::move(from);
  EXPECT_EQ(to.data(), data);
  AlignedBuffer other(50, "a test");
  other = std::move(to);
  EXPECT_EQ(other.data(), data);
  EXPECT_EQ(other.size(), 100U);
}

TEST(AlignedBuffer, TooLargeIsAnError) {
  for (const uint64_t n_bytes : {uint64_t{1} << 62, UINT64_MAX - 1}) {
    try {
      const AlignedBuffer buffer(n_bytes, "the KV cache");
      ADD_FAILURE() << "got " << n_bytes << " bytes";
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), testing::StartsWith("out of memory for the KV cache: expected "));
    }
  }
}

TEST(TensorView, Rows) {
  const std::vector<float> values = {0, 1, 2, 3, 4, 5};
  const TensorView dense = DenseView(values.data(), DType::kF32, 3, 2);
  EXPECT_EQ(reinterpret_cast<const float*>(dense.row(2))[1], 5.0F);
  EXPECT_EQ(dense.weight_bytes(), 24U);
  const TensorView tail = dense.SliceRows(1, 3);
  EXPECT_EQ(tail.rows, 2);
  EXPECT_EQ(reinterpret_cast<const float*>(tail.row(0))[0], 2.0F);
  const TensorView strided{dense.data, DType::kF32, 2, 1, 12};  // every third value
  EXPECT_EQ(*reinterpret_cast<const float*>(strided.row(1)), 3.0F);
  EXPECT_EQ(strided.weight_bytes(), 8U);
  EXPECT_TRUE(TensorView{}.empty());
}

}  // namespace
}  // namespace thermocline
