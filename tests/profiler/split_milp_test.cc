// The splits that the solver finds against those of CBC, a solver of mixed integer programs, on
// random small problems: the same least times.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <random>
#include <string>

#include "tests/profiler/split_problems.h"
#include "tests/support/temp_dir.h"

#ifndef THERMOCLINE_CBC
#error "the path of cbc"
#endif

namespace thermocline {
namespace {

constexpr int kProblems = 200;

// Sums "+ a x + b y ..." over the choices of all layers, or of one.
template <typename Weight>
std::string Sum(const SplitProblem& problem, const Weight& weight, size_t only = SIZE_MAX) {
  std::string text;
  for (size_t l = 0; l < problem.layers.size(); ++l) {
    if (only != SIZE_MAX && l != only) continue;
    for (size_t i = 0; i < problem.layers[l].size(); ++i) {
      const auto w = static_cast<long long>(weight(problem.layers[l][i]));
      if (w == 0) continue;
      text += " + " + std::to_string(w) + " x" + std::to_string(l) + "_" + std::to_string(i);
    }
    text += "\n";
  }
  return text;
}

// One binary variable per choice; h and c are the largest shares on the tiers.
std::string ProgramOf(const ProblemToSplit& split) {
  const SplitProblem& p = split.problem;
  std::string text = "Minimize\n obj:" + Sum(p, [](const SplitChoice& c) { return c.picoseconds; });
  text += "Subject To\n";
  for (size_t l = 0; l < p.layers.size(); ++l) {
    const std::string n = std::to_string(l);
    text += " one" + n + ":" +
            Sum(
                p, [](const SplitChoice&) { return 1; }, l) +
            " = 1\n";
    text += " hot" + n + ":" +
            Sum(
                p, [](const SplitChoice& c) { return c.n_hot; }, l) +
            " - h <= 0\n";
    text += " cold" + n + ":" +
            Sum(
                p, [](const SplitChoice& c) { return c.n_cold; }, l) +
            " - c <= 0\n";
  }
  const auto room = static_cast<long long>(p.vram_bytes) - static_cast<long long>(split.fast_base);
  text += " vram:" + Sum(p, [](const SplitChoice& c) { return c.fast_bytes; }) + " + " +
          std::to_string(split.fast_slope) + " h <= " + std::to_string(room) + "\n";
  text += " ram:" + Sum(p, [](const SplitChoice& c) { return c.slow_bytes; }) + " + " +
          std::to_string(split.slow_slope) + " c <= " + std::to_string(p.ram_bytes) + "\n";
  text += "Binary\n";
  for (size_t l = 0; l < p.layers.size(); ++l) {
    for (size_t i = 0; i < p.layers[l].size(); ++i) {
      text += " x" + std::to_string(l) + "_" + std::to_string(i) + "\n";
    }
  }
  return text + "End\n";
}

// What CBC finds to be the least; nullopt where it says that nothing keeps the budgets.
std::optional<double> SolvedByCbc(const TempDir& dir, const std::string& program) {
  std::ofstream(dir.file("p.lp")) << program;
  const std::string command = std::string(THERMOCLINE_CBC) + " " + dir.file("p.lp") +
                              " -ratioGap 0 -allowableGap 0 -solve -solution " + dir.file("p.out") +
                              " > " + dir.file("p.log") + " 2>&1";
  EXPECT_EQ(std::system(command.c_str()), 0) << command << "\n" << ReadWholeFile(dir.file("p.log"));
  const std::string out = ReadWholeFile(dir.file("p.out"));
  double value = 0;
  if (std::sscanf(out.c_str(), "Optimal - objective value %lf", &value) == 1) return value;
  EXPECT_NE(out.find("nfeasible"), std::string::npos) << out;
  return {};
}

TEST(SplitMilpTest, AsGoodAsAMixedIntegerProgram) {
  ASSERT_EQ(std::string(THERMOCLINE_CBC).find("NOTFOUND"), std::string::npos)
      << "install cbc (Debian: coinor-cbc) and configure again";
  const TempDir dir;
  std::mt19937 random(31);
  int n_found = 0;
  for (int i = 0; i < kProblems; ++i) {
    const ProblemToSplit split =
        MakeProblemAtRandom({.n_layers = 2 + NumberUpTo(random, 4),
                             .n_clusters = 3 + static_cast<int64_t>(NumberUpTo(random, 5))},
                            random);
    const SplitSolution solution = SolveSplit(split.problem);
    const std::optional<double> cbc = SolvedByCbc(dir, ProgramOf(split));
    ASSERT_EQ(solution.found, cbc.has_value()) << "problem " << i;
    if (!cbc) continue;
    ++n_found;
    EXPECT_TRUE(Keeps(split.problem, solution.choice)) << "problem " << i;
    EXPECT_NEAR(static_cast<double>(solution.picoseconds), *cbc, 0.01) << "problem " << i;
    ASSERT_FALSE(HasFailure()) << ProgramOf(split);
  }
  EXPECT_GT(n_found, kProblems / 2);
}

}  // namespace
}  // namespace thermocline
