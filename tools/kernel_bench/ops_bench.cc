// Times the small ops of a layer on data that lies in L1 or L2, by one thread, in bytes read and
// written per second. Each is compared with the plain C++ table first.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "cpu_kernels/kernels.h"
#include "runtime/core/aligned_buffer.h"
#include "runtime/rates/read_bandwidth.h"
#include "tools/kernel_bench/rates.h"
#include "tools/kernel_bench/sweeps.h"

namespace thermocline {
namespace {

constexpr int kIterations = 100;
constexpr int kCallsPerSample = 16;  // between two refills: some ops change their own input

// Vectors of an op. x is filled anew before every sample; half of its values are zero.
struct OpVectors {
  explicit OpVectors(int64_t size)
      : n(size), x(Bytes(), "x"), y(Bytes(), "y"), out(Bytes() + 4096, "out") {
    Fill();
  }
  uint64_t Bytes() const { return static_cast<uint64_t>(n) * sizeof(float); }
  void Fill() {
    std::mt19937 rng(5);
    std::normal_distribution<float> normal;
    for (int64_t i = 0; i < n; ++i) {
      const float value = normal(rng);
      x.as<float>()[i] = value > 0 ? value : 0;
      y.as<float>()[i] = 1 + 0.125F * static_cast<float>(i % 3);
    }
  }

  int64_t n;
  AlignedBuffer x;
  AlignedBuffer y;
  AlignedBuffer out;
};

enum class Output : uint8_t { kX, kOutFloats, kOutBytes, kNothing };

struct Op {
  const char* name;
  double bytes_per_element;  // read and written
  Output output;             // what is compared; nothing for what other benches check
  std::function<void(const KernelTable&, OpVectors&)> run;
};

std::vector<Op> Ops() {
  using K = const KernelTable&;
  using V = OpVectors&;
  const auto prepare = [](DType dtype) {
    return
        [dtype](K k, V v) { k.prepare(k.vector_form(dtype), v.x.as<float>(), v.n, v.out.data()); };
  };
  const auto rope = [](RopePairing pairing) {
    return [pairing](K k, V v) {
      constexpr int64_t kHead = 128;
      const float* angles = v.y.as<float>();
      for (int64_t at = 0; at < v.n; at += kHead) {
        k.rope(pairing, v.x.as<float>() + at, kHead, angles, angles + kHead / 2);
      }
    };
  };
  const auto activate = [](Activation activation) {
    return [activation](K k, V v) { k.activate(activation, v.x.as<float>(), v.n); };
  };
  return {
      {"rms_norm", 16, Output::kOutFloats,
       [](K k, V v) {
         k.rms_norm(v.x.as<float>(), v.y.as<float>(), v.n, 1e-5F, v.out.as<float>());
       }},
      {"layer_norm", 20, Output::kOutFloats,
       [](K k, V v) {
         k.layer_norm(v.x.as<float>(), v.y.as<float>(), v.y.as<float>(), v.n, 1e-5F,
                      v.out.as<float>());
       }},
      {"rope_adjacent", 8, Output::kX, rope(RopePairing::kAdjacent)},
      {"rope_halves", 8, Output::kX, rope(RopePairing::kHalves)},
      {"activate_silu", 8, Output::kX, activate(Activation::kSilu)},
      {"activate_gelu", 8, Output::kX, activate(Activation::kGelu)},
      {"activate_relu", 8, Output::kX, activate(Activation::kRelu)},
      {"exp_scores", 12, Output::kX,
       [](K k, V v) {
         float m = 0;
         benchmark::DoNotOptimize(k.exp_scores(v.x.as<float>(), v.n, 0.125F, &m));
       }},
      {"compact_nonzero_50%", 6, Output::kOutBytes,
       [](K k, V v) {
         benchmark::DoNotOptimize(k.compact_nonzero(v.x.as<float>(), v.n, 0, v.out.as<int32_t>()));
       }},
      {"multiply", 12, Output::kX,
       [](K k, V v) { k.multiply(v.x.as<float>(), v.y.as<float>(), v.n); }},
      {"add", 12, Output::kX, [](K k, V v) { k.add(v.x.as<float>(), v.y.as<float>(), v.n); }},
      {"f32_to_f16", 6, Output::kOutBytes,
       [](K k, V v) { k.f32_to_f16(v.x.as<float>(), v.n, v.out.as<uint16_t>()); }},
      {"f32_to_bf16", 6, Output::kOutBytes,
       [](K k, V v) { k.f32_to_bf16(v.x.as<float>(), v.n, v.out.as<uint16_t>()); }},
      {"f32_to_q8_0", 4 + 34.0 / 32, Output::kOutBytes,
       [](K k, V v) { k.f32_to_q8_0(v.x.as<float>(), v.n, v.out.bytes()); }},
      // Tables lay prepared vectors out in their own ways; the benches of matvec check them.
      {"prepare_q8", 5 + 4.0 / 32, Output::kNothing, prepare(DType::kQ8_0)},
      {"prepare_bf16_weights", 8, Output::kNothing, prepare(DType::kBF16)},
  };
}

void Verify(const Op& op, int64_t n) {
  if (op.output == Output::kNothing) return;
  OpVectors fast(n);
  OpVectors plain(n);
  op.run(CpuKernels(), fast);
  op.run(*AvailableCpuKernels().front(), plain);
  if (op.output == Output::kOutBytes) {
    // What compact_nonzero writes past its count is open.
    const auto bytes = std::min<int64_t>(n, 1024);
    for (int64_t i = 0; i < bytes; ++i) {
      if (fast.out.bytes()[i] != plain.out.bytes()[i]) {
        WrongResult(op.name, std::to_integer<int>(fast.out.bytes()[i]),
                    std::to_integer<int>(plain.out.bytes()[i]));
      }
    }
    return;
  }
  for (int64_t i = 0; i < n; ++i) {
    const bool in_x = op.output == Output::kX;
    const float found = (in_x ? fast.x : fast.out).as<float>()[i];
    const float expected = (in_x ? plain.x : plain.out).as<float>()[i];
    if (!(std::fabs(found - expected) <= 1e-5 * std::fabs(expected) + 1e-6)) {
      WrongResult(op.name, found, expected);
    }
  }
}

void RunOp(benchmark::State& state, const Op& op, int64_t n) {
  using Clock = std::chrono::steady_clock;
  Verify(op, n);
  OpVectors vectors(n);
  const PinnedTeam pinned(1);
  std::vector<double> rates;
  for (auto _ : state) {
    vectors.Fill();
    op.run(CpuKernels(), vectors);
    const Clock::time_point start = Clock::now();
    for (int i = 0; i < kCallsPerSample; ++i) {
      op.run(CpuKernels(), vectors);
      benchmark::ClobberMemory();
    }
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    state.SetIterationTime(seconds / kCallsPerSample);
    rates.push_back(op.bytes_per_element * static_cast<double>(n) * kCallsPerSample / seconds);
  }
  std::sort(rates.begin(), rates.end());
  state.counters["best_GBs"] = rates.back() / 1e9;
  state.counters["p50_GBs"] = rates[rates.size() / 2] / 1e9;
}

}  // namespace

void RegisterOps() {
  for (const Op& op : Ops()) {
    // 8 kB per vector fit L1 three times over, 128 kB fit L2.
    for (const auto& [level, n] : {std::pair<const char*, int64_t>{"L1", 2048}, {"L2", 32768}}) {
      const std::string name = fmt::format("ops/{}/{}", op.name, level);
      benchmark::RegisterBenchmark(name.c_str(), RunOp, op, n)
          ->UseManualTime()
          ->Unit(benchmark::kMicrosecond)
          ->Iterations(kIterations);
    }
  }
}

}  // namespace thermocline
