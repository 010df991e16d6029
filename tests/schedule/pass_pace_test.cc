// How much of a prompt goes into a pass, by how long passes took.
#include "runtime/schedule/pass_pace.h"

#include <gtest/gtest.h>

namespace thermocline {
namespace {

// Passes that take 20 ms and 2 ms for every further row.
double MsOf(int64_t n_rows) { return 20 + 2 * static_cast<double>(n_rows - 1); }

TEST(PassPace, KnowsNothingBeforeBothKindsOfPasses) {
  PassPace pace;
  EXPECT_TRUE(pace.wants_writing());
  EXPECT_EQ(pace.ReadTokens(3, 1), 0);
  pace.Measure(0, 400, MsOf(400));
  EXPECT_TRUE(pace.wants_writing());
  EXPECT_EQ(pace.ReadTokens(3, 1), 0);
  pace.Measure(1, 0, MsOf(1));
  EXPECT_FALSE(pace.wants_writing());
  EXPECT_GT(pace.ReadTokens(3, 1), 0);
}

TEST(PassPace, LearnsWhatARowTakes) {
  PassPace pace;
  for (int i = 0; i < 40; ++i) {
    pace.Measure(0, 400, MsOf(400));
    pace.Measure(3, 0, MsOf(3));
    pace.Measure(5, 40, MsOf(45));
  }
  EXPECT_NEAR(pace.RowMs(), 2, 0.1);
  // 60 ms are 21 rows, of which some write.
  EXPECT_NEAR(static_cast<double>(pace.ReadTokens(3, 1)), 20, 1);
  EXPECT_NEAR(static_cast<double>(pace.ReadTokens(3, 5)), 16, 1);
  EXPECT_NEAR(static_cast<double>(pace.ReadTokens(10, 5)), 86, 3);
  // Every prompt gets on, however many write.
  EXPECT_EQ(pace.ReadTokens(3, 100), 8);
  // A pass has 16 rows at least.
  EXPECT_EQ(pace.ReadTokens(1, 1), 15);
  EXPECT_EQ(pace.ReadTokens(1, 12), 8);
}

// A pass that something else disturbed does not decide for long.
TEST(PassPace, LooksAgainAtPassesThatReadNothing) {
  PassPace pace;
  pace.Measure(0, 400, MsOf(400));
  pace.Measure(1, 0, 100 * MsOf(1));
  int64_t n_passes = 0;
  while (pace.ReadTokens(3, 1) > 40 && n_passes < 500) {
    ++n_passes;
    if (pace.wants_writing()) {
      pace.Measure(1, 0, MsOf(1));
    } else {
      const int64_t n_read = pace.ReadTokens(3, 1);
      pace.Measure(1, n_read, MsOf(1 + n_read));
    }
  }
  EXPECT_LT(n_passes, 200);
}

}  // namespace
}  // namespace thermocline
