// main() of every test binary. GoogleTest exits with 0 when it skipped every test, and buries the
// reasons of single skipped tests in its output. Here a binary in which nothing ran exits with
// kAllSkipped, which CTest shows as "Skipped"; and each reason is repeated at the end and appended
// to the file that THERMOCLINE_SKIP_LOG names, from which tools/test prints them before the
// summary.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace {

constexpr int kAllSkipped = 77;  // SKIP_RETURN_CODE in tools/cmake/ThermoclineTargets.cmake

class SkipReasons : public testing::EmptyTestEventListener {
 public:
  void OnTestSuiteStart(const testing::TestSuite& suite) override { current_ = suite.name(); }
  void OnTestStart(const testing::TestInfo& test) override {
    current_ = std::string(test.test_suite_name()) + "." + test.name();
  }

  // GoogleTest holds its lock here, so asking it for the current test would wait for ever.
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.skipped()) return;
    std::string reason = result.message();
    std::replace(reason.begin(), reason.end(), '\n', ' ');
    reason.erase(reason.find_last_not_of(' ') + 1);
    lines_.push_back(current_ + ": " + (reason.empty() ? "no reason given" : reason));
  }

  void OnTestProgramEnd(const testing::UnitTest& /*unit_test*/) override {
    std::string text;
    for (const std::string& line : lines_) {
      std::printf("skipped %s\n", line.c_str());
      text += line + "\n";
    }
    const char* log = std::getenv("THERMOCLINE_SKIP_LOG");
    if (log == nullptr || text.empty()) return;
    std::ofstream(log, std::ios::app).write(text.data(), std::ssize(text));
  }

 private:
  std::string current_;
  std::vector<std::string> lines_;
};

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleMock(&argc, argv);
  testing::UnitTest& tests = *testing::UnitTest::GetInstance();
  tests.listeners().Append(new SkipReasons);  // owned by GoogleTest
  const int exit_code = RUN_ALL_TESTS();
  // A filter that fits nothing would pass for ever.
  if (exit_code == 0 && tests.test_to_run_count() == 0 && !testing::GTEST_FLAG(list_tests)) {
    std::fprintf(stderr, "no test has a name that the filter %s takes\n",
                 testing::GTEST_FLAG(filter).c_str());
    return 1;
  }
  const bool none_ran = tests.test_to_run_count() > 0 && tests.successful_test_count() == 0;
  return exit_code == 0 && none_ran ? kAllSkipped : exit_code;
}
