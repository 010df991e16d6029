#include "runtime/threads/memory_nodes.h"

#include <gtest/gtest.h>
#include <linux/mempolicy.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <vector>

#include "runtime/core/aligned_buffer.h"
#include "runtime/device/cpu/cpu_device.h"
#include "runtime/threads/processors.h"

namespace thermocline {
namespace {

constexpr unsigned long kMaxNodes = 1024;  // what the kernel can be built for

// Returns the policy of the page at `memory`, or -1 where the system does not say.
int PolicyAt(void* memory) {
  std::vector<unsigned long> mask(kMaxNodes / (8 * sizeof(unsigned long)));
  int mode = -1;
  const long result =
      syscall(SYS_get_mempolicy, &mode, mask.data(), kMaxNodes, memory, MPOL_F_ADDR);
  return result == 0 ? mode : -1;
}

TEST(MemoryNodesTest, InterleavedPagesAreFromTheNodesNamed) {
  const std::vector<int> nodes = NodesBeside(ThreadCpus());
  AlignedBuffer buffer(3 << 20, "a test");
  AlignedBuffer other(3 << 20, "a test");
  if (PolicyAt(buffer.data()) != MPOL_DEFAULT || nodes.empty()) {
    GTEST_SKIP() << "memory policies cannot be seen here, or the process has one";
  }
  if (!InterleavePages(other.data(), other.size(), nodes)) {
    GTEST_SKIP() << "memory policies cannot be set here";
  }
  EXPECT_TRUE(InterleavePages(buffer.data(), buffer.size(), nodes));
  buffer.bytes()[0] = std::byte{1};
  buffer.bytes()[buffer.size() - 1] = std::byte{1};
  EXPECT_EQ(PolicyAt(buffer.data()), MPOL_INTERLEAVE);
  EXPECT_EQ(PolicyAt(buffer.bytes() + buffer.size() - 1), MPOL_INTERLEAVE);
}

TEST(MemoryNodesTest, NodesThatAreNotThereAreRefused) {
  AlignedBuffer buffer(1 << 20, "a test");
  EXPECT_FALSE(InterleavePages(buffer.data(), buffer.size(), {}));
  EXPECT_FALSE(InterleavePages(buffer.data(), buffer.size(), std::vector{1000}));
  buffer.bytes()[0] = std::byte{1};  // still memory
  EXPECT_EQ(buffer.bytes()[0], std::byte{1});
}

// What a device allocates is spread exactly where there is more than one node.
TEST(MemoryNodesTest, WeightsOfADeviceAreSpreadOverSeveralNodes) {
  AlignedBuffer plain(1 << 20, "a test");
  AlignedBuffer probe(1 << 20, "a test");
  const std::vector<int> nodes = NodesBeside(ThreadCpus());
  if (PolicyAt(plain.data()) != MPOL_DEFAULT ||
      !InterleavePages(probe.data(), probe.size(), nodes)) {
    GTEST_SKIP() << "memory policies cannot be used here, or the process has one";
  }
  CpuDevice device("a device", CpuDeviceLimits{.max_tokens = 1,
                                               .d_model = 32,
                                               .max_d_in = 32,
                                               .max_neurons = 32,
                                               .max_seq_len = 8,
                                               .n_heads = 1,
                                               .n_kv_heads = 1,
                                               .head_dim = 32});
  auto* weights = static_cast<std::byte*>(device.Allocate(1 << 20, "weights"));
  EXPECT_EQ(PolicyAt(weights), nodes.size() > 1 ? MPOL_INTERLEAVE : MPOL_DEFAULT);
}

}  // namespace
}  // namespace thermocline
