#include "profiler/placement/split_solver.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <queue>

#include "profiler/placement/choice_knapsack.h"
#include "runtime/core/error.h"

namespace thermocline {
namespace {

constexpr int64_t kNoBound = int64_t{1} << 60;
constexpr int64_t kMostRanges = 20000;

// Limits on the shares of a layer, as indices of their lists; both ends are in it.
struct LimitRange {
  size_t hot_low = 0;
  size_t hot_high = 0;
  size_t cold_low = 0;
  size_t cold_high = 0;
  double bound = 0;  // of the range it was cut from
};

struct LaterRange {
  bool operator()(const LimitRange& a, const LimitRange& b) const { return a.bound > b.bound; }
};

class SplitSolver {
 public:
  explicit SplitSolver(const SplitProblem& problem) : problem_(problem) {
    for (const auto& layer : problem.layers) {
      for (const SplitChoice& choice : layer) {
        hot_limits_.push_back(choice.n_hot);
        cold_limits_.push_back(choice.n_cold);
      }
    }
    for (std::vector<int64_t>* limits : {&hot_limits_, &cold_limits_}) {
      std::ranges::sort(*limits);
      limits->erase(std::unique(limits->begin(), limits->end()), limits->end());
    }
  }

  SplitSolution Solve() {
    const size_t hot = hot_limits_.size() - 1;
    const size_t cold = cold_limits_.size() - 1;
    // Whatever the shares: this often has the solution, or one near it.
    Search({hot, hot, cold, cold, 0});
    ranges_.push({0, hot, 0, cold, 0});
    double unproven = static_cast<double>(kNoBound);
    while (!ranges_.empty()) {
      const LimitRange range = ranges_.top();
      ranges_.pop();
      if (range.bound > static_cast<double>(Best()) - Open()) {
        unproven = std::min(unproven, range.bound);
        continue;
      }
      if (solution_.n_searched >= kMostRanges) {
        unproven = std::min(unproven, range.bound);
        continue;
      }
      unproven = std::min(unproven, Search(range));
    }
    solution_.least_picoseconds =
        std::min(solution_.picoseconds, static_cast<int64_t>(std::ceil(unproven)));
    return solution_;
  }

 private:
  double Open() const { return std::max(0.5, static_cast<double>(problem_.tolerance_picoseconds)); }
  int64_t Best() const { return solution_.found ? solution_.picoseconds : kNoBound; }

  uint64_t FastFixed(size_t i) { return Fixed(problem_.fast_fixed_bytes, hot_limits_[i], &fast_); }
  uint64_t SlowFixed(size_t i) { return Fixed(problem_.slow_fixed_bytes, cold_limits_[i], &slow_); }
  static uint64_t Fixed(const std::function<uint64_t(int64_t)>& bytes, int64_t limit,
                        std::map<int64_t, uint64_t>* known) {
    const auto [at, is_new] = known->try_emplace(limit, 0);
    if (is_new) at->second = bytes(limit);
    return at->second;
  }

  // Solves a range as if the tiers held as little besides as anywhere in it. What it finds is
  // either a solution, or a reason to halve the range. Returns a bound on what is left unproven.
  double Search(const LimitRange& range) {
    ++solution_.n_searched;
    const uint64_t fast = FastFixed(range.hot_low);
    const uint64_t slow = SlowFixed(range.cold_low);
    const auto nothing = static_cast<double>(kNoBound);
    if (fast > problem_.vram_bytes || slow > problem_.ram_bytes) return nothing;
    KnapsackProblem knapsack{
        {}, problem_.vram_bytes - fast, problem_.ram_bytes - slow, problem_.tolerance_picoseconds};
    std::vector<std::vector<size_t>> origin;  // which choice an item is
    for (const auto& layer : problem_.layers) {
      knapsack.groups.emplace_back();
      origin.emplace_back();
      for (size_t i = 0; i < layer.size(); ++i) {
        const SplitChoice& c = layer[i];
        if (c.n_hot > hot_limits_[range.hot_high] || c.n_cold > cold_limits_[range.cold_high]) {
          continue;
        }
        knapsack.groups.back().push_back({c.picoseconds, c.fast_bytes, c.slow_bytes});
        origin.back().push_back(i);
      }
      if (origin.back().empty()) return nothing;
    }
    const KnapsackResult result = SolveKnapsack(knapsack, Best());
    if (result.choice.empty()) {
      return result.lower_bound < static_cast<double>(Best()) - 0.5 ? result.lower_bound : nothing;
    }
    std::vector<size_t> choice;
    for (size_t l = 0; l < origin.size(); ++l) choice.push_back(origin[l][result.choice[l]]);
    const double unproven =
        result.lower_bound < static_cast<double>(result.cost) - 0.5 ? result.lower_bound : nothing;
    const Overrun over = OverrunOf(choice);
    if (!over.fast && !over.slow) {
      solution_.found = true;
      solution_.choice = std::move(choice);
      solution_.picoseconds = result.cost;
      return unproven;
    }
    Halve(range, over, result.lower_bound);
    return nothing;
  }

  struct Overrun {
    bool fast = false;
    bool slow = false;
  };
  // Which budgets do not hold with what the tiers really hold besides.
  Overrun OverrunOf(const std::vector<size_t>& choice) {
    int64_t max_hot = 0;
    int64_t max_cold = 0;
    uint64_t fast = 0;
    uint64_t slow = 0;
    for (size_t l = 0; l < choice.size(); ++l) {
      const SplitChoice& c = problem_.layers[l][choice[l]];
      max_hot = std::max(max_hot, c.n_hot);
      max_cold = std::max(max_cold, c.n_cold);
      fast += c.fast_bytes;
      slow += c.slow_bytes;
    }
    return {fast + Fixed(problem_.fast_fixed_bytes, max_hot, &fast_) > problem_.vram_bytes,
            slow + Fixed(problem_.slow_fixed_bytes, max_cold, &slow_) > problem_.ram_bytes};
  }

  // Where the limit on what overran leaves room for another. (Where the range is one limit, what it
  // was solved with is what the tiers hold at most.)
  void Halve(const LimitRange& range, const Overrun& over, double bound) {
    LimitRange low = range;
    LimitRange high = range;
    low.bound = high.bound = bound;
    if (over.fast) {
      CHECK(range.hot_low < range.hot_high);
      low.hot_high = (range.hot_low + range.hot_high) / 2;
      high.hot_low = low.hot_high + 1;
    } else {
      CHECK(range.cold_low < range.cold_high);
      low.cold_high = (range.cold_low + range.cold_high) / 2;
      high.cold_low = low.cold_high + 1;
    }
    ranges_.push(low);
    ranges_.push(high);
  }

  const SplitProblem& problem_;
  std::vector<int64_t> hot_limits_;   // ascending
  std::vector<int64_t> cold_limits_;  // ascending
  std::map<int64_t, uint64_t> fast_;
  std::map<int64_t, uint64_t> slow_;
  std::priority_queue<LimitRange, std::vector<LimitRange>, LaterRange> ranges_;
  SplitSolution solution_;
};

}  // namespace

SplitSolution SolveSplit(const SplitProblem& problem) {
  CHECK(!problem.layers.empty());
  for (const auto& layer : problem.layers) CHECK(!layer.empty());
  return SplitSolver(problem).Solve();
}

}  // namespace thermocline
