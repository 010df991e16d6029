#include "runtime/device/cpu/onednn_gemm.h"

#include <dnnl.hpp>
#include <map>
#include <tuple>
#include <utility>

#include "runtime/core/aligned_buffer.h"
#include "runtime/core/held_signals.h"

namespace thermocline {
namespace {

// Returns the key that a compiled primitive of oneDNN is stored under.
auto KeyOf(const F32Product& p) {
  return std::make_tuple(p.accumulate, p.m, p.k, p.n, p.lda, p.ldb_k, p.ldb_n, p.ldc);
}

}  // namespace

struct OneDnnGemm::Impl {
  struct Compiled {
    dnnl::matmul primitive;
    dnnl::memory::desc a, b, c, scratch;
  };

  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  std::map<decltype(KeyOf({})), Compiled> compiled;
  AlignedBuffer scratch;

  const Compiled& Get(const F32Product& p) {
    const auto key = KeyOf(p);
    const auto found = compiled.find(key);
    if (found != compiled.end()) return found->second;
    const auto type = dnnl::memory::data_type::f32;
    const dnnl::memory::desc a({p.m, p.k}, type, dnnl::memory::dims{p.lda, 1});
    const dnnl::memory::desc b({p.k, p.n}, type, dnnl::memory::dims{p.ldb_k, p.ldb_n});
    const dnnl::memory::desc c({p.m, p.n}, type, dnnl::memory::dims{p.ldc, 1});
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    if (p.accumulate) {
      dnnl::post_ops sum;
      sum.append_sum(1.0F);
      attributes.set_post_ops(sum);
    }
    const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(a, b, c), attributes, engine);
    Compiled entry{dnnl::matmul(description), a, b, c, description.scratchpad_desc()};
    return compiled.emplace(key, std::move(entry)).first->second;
  }
};

OneDnnGemm::OneDnnGemm() : impl_(std::make_unique<Impl>()) {}
OneDnnGemm::~OneDnnGemm() = default;

void OneDnnGemm::Run(const F32Product& product, const float* a, const float* b, float* c) {
  const HeldSignals held;
  const Impl::Compiled& entry = impl_->Get(product);
  if (entry.scratch.get_size() > impl_->scratch.size()) {
    impl_->scratch = AlignedBuffer(entry.scratch.get_size(), "prefill scratch");
  }
  // oneDNN's handles are not const; sources are only read.
  const dnnl::memory ma(entry.a, impl_->engine, const_cast<float*>(a));
  const dnnl::memory mb(entry.b, impl_->engine, const_cast<float*>(b));
  const dnnl::memory mc(entry.c, impl_->engine, c);
  const dnnl::memory ms(entry.scratch, impl_->engine, impl_->scratch.data());
  entry.primitive.execute(
      impl_->stream,
      {{DNNL_ARG_SRC, ma}, {DNNL_ARG_WEIGHTS, mb}, {DNNL_ARG_DST, mc}, {DNNL_ARG_SCRATCHPAD, ms}});
  impl_->stream.wait();
}

}  // namespace thermocline
