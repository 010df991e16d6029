#include "runtime/threads/parallel_for.h"

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "runtime/core/checked_math.h"
#include "runtime/core/error.h"
#include "runtime/core/held_signals.h"

namespace thermocline {
namespace {

// Of the chunks that failed, the first. An exception must not leave a parallel region.
class FirstError {
 public:
  explicit FirstError(int64_t n_chunks) : chunk_(n_chunks) {}

  bool IsBefore(int64_t chunk) const { return chunk_.load(std::memory_order_relaxed) < chunk; }
  void Keep(int64_t chunk, std::exception_ptr error) {
    const std::lock_guard lock(mutex_);
    if (chunk_.load(std::memory_order_relaxed) <= chunk) return;
    chunk_.store(chunk, std::memory_order_relaxed);
    error_ = std::move(error);
  }
  void Rethrow() const {
    if (error_ != nullptr) std::rethrow_exception(error_);
  }

 private:
  std::atomic<int64_t> chunk_;
  std::mutex mutex_;
  std::exception_ptr error_;
};

// Runs run(thread, chunk) for every chunk. Trees with a sanitizer do without OpenMP (CMakeLists.txt
// says why).
template <typename Run>
void ForChunks(int64_t n_chunks, int n_threads, const Run& run) {
#ifdef THERMOCLINE_LOOPS_WITHOUT_OPENMP
  std::atomic<int64_t> next{0};
  const auto work = [&](int thread) {
    omp_set_num_threads(1);
    for (int64_t c = next++; c < n_chunks; c = next++) run(thread, c);
  };
  std::vector<std::jthread> others;
  {
    const HeldSignals held;  // inherited
    for (int i = 1; i < n_threads; ++i) others.emplace_back(work, i);
  }
  work(0);
#else
#pragma omp parallel num_threads(n_threads)
  {
    // For oneDNN, which sees for itself that it is called inside a region, but not in one of a
    // single thread. It holds until the region's end.
    omp_set_num_threads(1);
    if (omp_get_thread_num() > 0) HoldSignals();
#pragma omp for schedule(dynamic)
    for (int64_t c = 0; c < n_chunks; ++c) run(omp_get_thread_num(), c);
  }
#endif
}

}  // namespace

void ParallelFor(int64_t n, int64_t grain, int n_threads,
                 const std::function<void(int thread, int64_t begin, int64_t end)>& body) {
  CHECK(grain >= 1 && n_threads >= 1);
  const int64_t n_chunks = CeilDiv(n, grain);
  FirstError error(n_chunks);
  ForChunks(n_chunks, static_cast<int>(std::clamp<int64_t>(n_chunks, 1, n_threads)),
            [&](int thread, int64_t chunk) {
              if (error.IsBefore(chunk)) return;
              try {
                body(thread, chunk * grain, std::min((chunk + 1) * grain, n));
              } catch (...) {
                error.Keep(chunk, std::current_exception());
              }
            });
  error.Rethrow();
}

}  // namespace thermocline
