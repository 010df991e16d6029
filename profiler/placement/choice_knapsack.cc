#include "profiler/placement/choice_knapsack.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <optional>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

constexpr int kFastSteps = 60;  // bisections for the price of the fast tier's bytes
constexpr int kSlowSteps = 48;
constexpr size_t kMostStates = size_t{1} << 22;  // of all groups together
constexpr double kTie = 0.5;                     // costs are whole numbers

// What a choice of items takes.
struct Taken {
  std::vector<size_t> choice;
  int64_t cost = 0;
  uint64_t fast_bytes = 0;
  uint64_t slow_bytes = 0;
};

// The two prices, and the bound they give.
struct Prices {
  double fast = 0;  // cost per byte
  double slow = 0;
  double bound = -std::numeric_limits<double>::infinity();
};

// One group's items that are cheapest at some price of the fast tier's bytes, from the lightest on:
// the lower convex hull, as far as it falls.
struct Hull {
  std::vector<size_t> items;
  std::vector<double> slopes;  // what is saved per byte from one item to the next; falling
};

class KnapsackSolver {
 public:
  KnapsackSolver(const KnapsackProblem& problem, int64_t cutoff)
      : problem_(problem),
        cutoff_(cutoff),
        fast_capacity_(Reachable(problem, problem.fast_capacity, &KnapsackItem::fast_bytes)),
        slow_capacity_(Reachable(problem, problem.slow_capacity, &KnapsackItem::slow_bytes)),
        by_weight_(problem.groups.size()) {
    for (size_t g = 0; g < problem.groups.size(); ++g) {
      const auto& items = problem.groups[g];
      CHECK(!items.empty());
      by_weight_[g].resize(items.size());
      std::iota(by_weight_[g].begin(), by_weight_[g].end(), size_t{0});
      if (std::ranges::is_sorted(items, {}, &KnapsackItem::fast_bytes)) continue;
      std::ranges::stable_sort(by_weight_[g], {}, [&](size_t i) { return items[i].fast_bytes; });
    }
  }

  KnapsackResult Solve() {
    KnapsackResult result;
    result.lower_bound = static_cast<double>(cutoff_);
    if (Infeasible()) return result;
    FindPrices();
    if (Settled()) return Answer();
    if (!best_ && !FindFeasible()) return result;
    if (Settled()) return Answer();
    const bool complete = Search();
    result = Answer();
    result.lower_bound = static_cast<double>(Upper());
    if (!complete) result.lower_bound = std::min(result.lower_bound, prices_.bound);
    return result;
  }

 private:
  // What of a capacity can be filled at all: bytes of items are multiples of something.
  static uint64_t Reachable(const KnapsackProblem& problem, uint64_t capacity,
                            uint64_t KnapsackItem::*bytes) {
    uint64_t unit = 0;
    for (const auto& items : problem.groups) {
      for (const KnapsackItem& item : items) unit = std::gcd(unit, item.*bytes);
    }
    return unit == 0 ? capacity : capacity / unit * unit;
  }
  bool Settled() const {
    const double open = std::max(kTie, static_cast<double>(problem_.tolerance));
    return prices_.bound > static_cast<double>(Upper()) - open;
  }
  int64_t Upper() const { return best_ ? std::min(cutoff_, best_->cost) : cutoff_; }
  KnapsackResult Answer() const {
    KnapsackResult result;
    result.lower_bound = std::min(static_cast<double>(Upper()), prices_.bound);
    if (prices_.bound > static_cast<double>(Upper()) - kTie) {
      result.lower_bound = static_cast<double>(Upper());
    }
    if (!best_ || best_->cost >= cutoff_) return result;
    result.choice = best_->choice;
    result.cost = best_->cost;
    return result;
  }

  // Whether one capacity alone is too small for any choice.
  bool Infeasible() const {
    double fast = 0;
    double slow = 0;
    for (const auto& items : problem_.groups) {
      fast += static_cast<double>(
          std::ranges::min_element(items, {}, &KnapsackItem::fast_bytes)->fast_bytes);
      slow += static_cast<double>(
          std::ranges::min_element(items, {}, &KnapsackItem::slow_bytes)->slow_bytes);
    }
    return fast > static_cast<double>(fast_capacity_) || slow > static_cast<double>(slow_capacity_);
  }

  double Priced(const KnapsackItem& item, double slow_price) const {
    return static_cast<double>(item.cost) + slow_price * static_cast<double>(item.slow_bytes);
  }

  Hull HullOf(size_t group, double slow_price) const {
    const auto& items = problem_.groups[group];
    Hull hull;
    std::vector<size_t>& kept = hull.items;
    const auto slope = [&](size_t a, size_t b) {
      return (Priced(items[a], slow_price) - Priced(items[b], slow_price)) /
             static_cast<double>(items[b].fast_bytes - items[a].fast_bytes);
    };
    for (const size_t i : by_weight_[group]) {
      if (!kept.empty() && Priced(items[i], slow_price) >= Priced(items[kept.back()], slow_price)) {
        continue;
      }
      // As heavy and cheaper.
      if (!kept.empty() && items[kept.back()].fast_bytes == items[i].fast_bytes) kept.pop_back();
      while (kept.size() >= 2 &&
             slope(kept[kept.size() - 2], kept.back()) <= slope(kept.back(), i)) {
        kept.pop_back();
      }
      kept.push_back(i);
    }
    for (size_t i = 1; i < kept.size(); ++i) hull.slopes.push_back(slope(kept[i - 1], kept[i]));
    return hull;
  }

  // Of each group the lightest of the items that are cheapest at this price.
  Taken CheapestAt(const std::vector<Hull>& hulls, double fast_price) const {
    Taken taken;
    for (size_t g = 0; g < hulls.size(); ++g) {
      const auto& slopes = hulls[g].slopes;
      const auto end = std::partition_point(slopes.begin(), slopes.end(),
                                            [&](double slope) { return slope > fast_price; });
      const size_t i = hulls[g].items[static_cast<size_t>(end - slopes.begin())];
      Add(problem_.groups[g][i], i, &taken);
    }
    return taken;
  }

  static void Add(const KnapsackItem& item, size_t i, Taken* taken) {
    taken->choice.push_back(i);
    taken->cost += item.cost;
    taken->fast_bytes += item.fast_bytes;
    taken->slow_bytes += item.slow_bytes;
  }

  double BoundOf(const Taken& taken, const Prices& p) const {
    const auto over = [](uint64_t used, uint64_t capacity) {
      return static_cast<double>(used) - static_cast<double>(capacity);
    };
    return static_cast<double>(taken.cost) + p.fast * over(taken.fast_bytes, fast_capacity_) +
           p.slow * over(taken.slow_bytes, slow_capacity_);
  }

  // Finds the fast tier's best price beside one of the slow tier's, keeps the bound, tries the
  // choice. Returns what the choice takes of the slow tier.
  uint64_t TrySlowPrice(double slow_price) {
    std::vector<Hull> hulls;
    double high = 0;
    for (size_t g = 0; g < problem_.groups.size(); ++g) {
      hulls.push_back(HullOf(g, slow_price));
      if (!hulls.back().slopes.empty()) high = std::max(high, hulls.back().slopes.front());
    }
    double low = 0;
    Taken taken = CheapestAt(hulls, 0);
    if (taken.fast_bytes > fast_capacity_) {
      taken = CheapestAt(hulls, high);
      for (int step = 0; step < kFastSteps; ++step) {
        const double middle = (low + high) / 2;
        Taken at = CheapestAt(hulls, middle);
        if (at.fast_bytes > fast_capacity_) {
          low = middle;
        } else {
          high = middle;
          taken = std::move(at);
        }
      }
    } else {
      high = 0;
    }
    Prices prices{high, slow_price, 0};
    prices.bound = BoundOf(taken, prices);
    if (prices.bound > prices_.bound) prices_ = prices;
    const uint64_t slow_bytes = taken.slow_bytes;
    if (prices_.bound < static_cast<double>(cutoff_) - kTie) TryImproved(taken);
    return slow_bytes;
  }

  void FindPrices() {
    if (TrySlowPrice(0) <= slow_capacity_) return;
    // From here on the price of the slow tier's bytes is above 0: that which makes them fit.
    double high = 1e-9;
    while (high < 1e15 && TrySlowPrice(high) > slow_capacity_) high *= 8;
    double low = 0;
    for (int step = 0; step < kSlowSteps; ++step) {
      const double middle = (low + high) / 2;
      (TrySlowPrice(middle) > slow_capacity_ ? low : high) = middle;
    }
  }

  bool Fits(const Taken& taken) const {
    return taken.fast_bytes <= fast_capacity_ && taken.slow_bytes <= slow_capacity_;
  }

  // Takes what saves most, or most per byte, while there is room.
  void TryImproved(const Taken& start) {
    if (!Fits(start)) return;
    for (const bool per_byte : {true, false}) {
      Taken taken = start;
      while (ImproveOnce(per_byte, &taken)) {
      }
      if (taken.cost < (best_ ? best_->cost : std::numeric_limits<int64_t>::max())) best_ = taken;
    }
  }

  bool ImproveOnce(bool per_byte, Taken* taken) const {
    double most = 0;
    size_t group = 0;
    size_t item = 0;
    for (size_t g = 0; g < problem_.groups.size(); ++g) {
      const auto& items = problem_.groups[g];
      const KnapsackItem& now = items[taken->choice[g]];
      const uint64_t fast_room = fast_capacity_ - taken->fast_bytes + now.fast_bytes;
      const uint64_t slow_room = slow_capacity_ - taken->slow_bytes + now.slow_bytes;
      for (size_t i = 0; i < items.size(); ++i) {
        const KnapsackItem& other = items[i];
        if (other.cost >= now.cost || other.fast_bytes > fast_room ||
            other.slow_bytes > slow_room) {
          continue;
        }
        double saved = static_cast<double>(now.cost - other.cost);
        if (per_byte && other.fast_bytes > now.fast_bytes) {
          saved /= static_cast<double>(other.fast_bytes - now.fast_bytes);
        } else if (per_byte) {
          saved *= 1e9;  // for nothing
        }
        if (saved <= most) continue;
        most = saved;
        group = g;
        item = i;
      }
    }
    if (most == 0) return false;
    const KnapsackItem& from = problem_.groups[group][taken->choice[group]];
    const KnapsackItem& to = problem_.groups[group][item];
    taken->cost += to.cost - from.cost;
    taken->fast_bytes += to.fast_bytes - from.fast_bytes;
    taken->slow_bytes += to.slow_bytes - from.slow_bytes;
    taken->choice[group] = item;
    return true;
  }

  // The least that the slow tier must hold beside the fast one's capacity: a knapsack of its own.
  bool FindFeasible() {
    KnapsackProblem least = problem_;
    least.tolerance = 0;
    for (auto& items : least.groups) {
      for (KnapsackItem& item : items) {
        item.cost = static_cast<int64_t>(item.slow_bytes);
        item.slow_bytes = 0;
      }
    }
    const auto cutoff = static_cast<int64_t>(std::min<uint64_t>(slow_capacity_, uint64_t{1} << 60));
    const KnapsackResult found = SolveKnapsack(least, cutoff + 1);
    if (found.choice.empty()) return false;
    Taken taken;
    for (size_t g = 0; g < found.choice.size(); ++g) {
      Add(problem_.groups[g][found.choice[g]], found.choice[g], &taken);
    }
    TryImproved(taken);
    return true;
  }

  // ---- dynamic programming over the items that the bound leaves ----

  struct State {
    uint64_t fast_bytes = 0;
    uint64_t slow_bytes = 0;
    int64_t cost = 0;
    double above = 0;  // the sum of what its items cost more than the cheapest, at the prices
    uint32_t parent = 0;
    uint32_t item = 0;
  };
  struct CoreItem {
    size_t item = 0;
    double above = 0;
  };

  std::vector<std::vector<CoreItem>> Core(double gap) const {
    std::vector<std::vector<CoreItem>> core;
    for (const auto& items : problem_.groups) {
      const auto priced = [&](const KnapsackItem& item) {
        return Priced(item, prices_.slow) + prices_.fast * static_cast<double>(item.fast_bytes);
      };
      double least = std::numeric_limits<double>::infinity();
      for (const KnapsackItem& item : items) least = std::min(least, priced(item));
      std::vector<CoreItem>& kept = core.emplace_back();
      for (size_t i = 0; i < items.size(); ++i) {
        const double above = priced(items[i]) - least;
        if (above <= gap) kept.push_back({i, above});
      }
    }
    return core;
  }

  struct Need {
    uint64_t fast_bytes = 0;
    uint64_t slow_bytes = 0;
  };

  // For each group what it and those behind it need at least.
  std::vector<Need> NeedsFrom(const std::vector<std::vector<CoreItem>>& core) const {
    std::vector<Need> needs(core.size() + 1);
    for (size_t g = core.size(); g-- > 0;) {
      Need least{UINT64_MAX, UINT64_MAX};
      for (const CoreItem& kept : core[g]) {
        const KnapsackItem& item = problem_.groups[g][kept.item];
        least.fast_bytes = std::min(least.fast_bytes, item.fast_bytes);
        least.slow_bytes = std::min(least.slow_bytes, item.slow_bytes);
      }
      needs[g] = {needs[g + 1].fast_bytes + least.fast_bytes,
                  needs[g + 1].slow_bytes + least.slow_bytes};
    }
    return needs;
  }

  // Leaves out states that another is no worse than in anything.
  static void DropDominated(std::vector<State>* states) {
    std::ranges::sort(*states, [](const State& a, const State& b) {
      if (a.fast_bytes != b.fast_bytes) return a.fast_bytes < b.fast_bytes;
      if (a.cost != b.cost) return a.cost < b.cost;
      if (a.slow_bytes != b.slow_bytes) return a.slow_bytes < b.slow_bytes;
      return a.parent != b.parent ? a.parent < b.parent : a.item < b.item;
    });
    std::map<uint64_t, int64_t> cheapest;  // by slow_bytes, cost falling
    size_t n = 0;
    for (const State& state : *states) {
      auto at = cheapest.upper_bound(state.slow_bytes);
      if (at != cheapest.begin() && std::prev(at)->second <= state.cost) continue;
      while (at != cheapest.end() && at->second >= state.cost) at = cheapest.erase(at);
      cheapest[state.slow_bytes] = state.cost;
      (*states)[n++] = state;
    }
    states->resize(n);
  }

  // Returns whether it went through all that could be better.
  bool Search() {
    const double gap = static_cast<double>(Upper()) - kTie - prices_.bound;
    const std::vector<std::vector<CoreItem>> core = Core(gap);
    for (const auto& items : core) {
      if (items.empty()) return true;
    }
    const std::vector<Need> needs = NeedsFrom(core);
    std::vector<std::vector<State>> steps = {{State{}}};
    size_t n_states = 1;
    for (size_t g = 0; g < core.size(); ++g) {
      std::vector<State> next;
      for (size_t s = 0; s < steps.back().size(); ++s) {
        const State& from = steps.back()[s];
        for (const CoreItem& kept : core[g]) {
          const KnapsackItem& item = problem_.groups[g][kept.item];
          const State to{from.fast_bytes + item.fast_bytes,
                         from.slow_bytes + item.slow_bytes,
                         from.cost + item.cost,
                         from.above + kept.above,
                         static_cast<uint32_t>(s),
                         static_cast<uint32_t>(kept.item)};
          if (to.above > gap || to.fast_bytes + needs[g + 1].fast_bytes > fast_capacity_ ||
              to.slow_bytes + needs[g + 1].slow_bytes > slow_capacity_) {
            continue;
          }
          next.push_back(to);
        }
        if (next.size() > 4 * kMostStates) return false;
      }
      DropDominated(&next);
      n_states += next.size();
      if (n_states > kMostStates) return false;
      steps.push_back(std::move(next));
    }
    TakeBest(steps);
    return true;
  }

  void TakeBest(const std::vector<std::vector<State>>& steps) {
    const std::vector<State>& last = steps.back();
    const auto found = std::ranges::min_element(last, {}, &State::cost);
    if (found == last.end() || found->cost >= Upper()) return;
    Taken taken{std::vector<size_t>(problem_.groups.size()), found->cost, found->fast_bytes,
                found->slow_bytes};
    const State* state = &*found;
    for (size_t g = problem_.groups.size(); g-- > 0;) {
      taken.choice[g] = state->item;
      state = &steps[g][state->parent];
    }
    best_ = std::move(taken);
  }

  const KnapsackProblem& problem_;
  const int64_t cutoff_;
  const uint64_t fast_capacity_;
  const uint64_t slow_capacity_;
  std::vector<std::vector<size_t>> by_weight_;  // by group, its items from the lightest on
  Prices prices_;
  std::optional<Taken> best_;
};

}  // namespace

KnapsackResult SolveKnapsack(const KnapsackProblem& problem, int64_t cutoff) {
  return KnapsackSolver(problem, cutoff).Solve();
}

}  // namespace thermocline
