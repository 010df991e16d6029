#include "runtime/device/cpu/panel_attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "runtime/core/checked_math.h"
#include "runtime/core/error.h"
#include "runtime/device/cpu/attention_bias.h"

namespace thermocline {
namespace {

uint64_t FloatBytes(int64_t n) { return static_cast<uint64_t>(n) * sizeof(float); }

// Returns the form for keys. Keys in f32 and f16 are not rounded any further, as scores go through
// an exponential.
GemmForm KeyForm(const GemmKernels& gemm, DType cache) {
  return cache == DType::kQ8_0 ? gemm.rows_form(cache) : GemmForm::kF32;
}

// Returns the bytes of rows in the widest of the cache's types.
uint64_t RowsBytes(int64_t head_dim, int64_t kv_chunk) {
  return static_cast<uint64_t>(RowBytes(DType::kF32, head_dim) * kv_chunk);
}

int64_t PanelsBytes(const GemmKernels& gemm, GemmForm form, int64_t n_outputs, int64_t k) {
  return CeilDiv(n_outputs, kGemmPanel) * gemm.panel_bytes(form, k);
}

// A query's largest score and sum of weights, of all chunks so far and of the last one.
struct Totals {
  float m;
  float sum;
  float chunk_m;
  float chunk_sum;
};

}  // namespace

struct PanelAttention::Sizes {
  int64_t queries;
  uint64_t prepared;
  uint64_t panels;

  Sizes(const GemmKernels& gemm, int64_t head_dim, int64_t group, int64_t kv_chunk)
      : queries(std::max(TileTokens(group) * group, kTileQueries)) {
    int64_t most = gemm.input_bytes(GemmForm::kF32, queries, kv_chunk);
    int64_t most_panels = PanelsBytes(gemm, GemmForm::kF32, head_dim, kv_chunk);
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kQ8_0}) {
      const GemmForm form = KeyForm(gemm, dtype);
      const int64_t k = AlignUp(head_dim, kQuantBlock);
      most = std::max(most, gemm.input_bytes(form, queries, k));
      most_panels = std::max(most_panels, PanelsBytes(gemm, form, kv_chunk, k));
    }
    prepared = static_cast<uint64_t>(most);
    panels = static_cast<uint64_t>(most_panels);
  }
};

// What all chunks of a call have in common.
struct PanelAttention::Tile {
  const HostKvCache& cache;
  const AttentionOp& op;
  int64_t kv_head;
  int64_t group;
  KvPageTable pages;
  int64_t first_position;  // of the first token
  int64_t first_end;       // end of the positions that it may see
  int64_t n_queries;       // query i is head i % group of token i / group
  GemmForm key_form;

  // Returns the end of the positions that query i may see.
  int64_t EndSeen(int64_t i) const { return op.sees_encoder ? first_end : first_end + i / group; }

  // Returns how many positions of [begin, end) query i sees, or has behind it.
  int64_t Seen(int64_t i, int64_t begin, int64_t end) const {
    return std::clamp<int64_t>(EndSeen(i) - begin, 0, end - begin);
  }
  // Returns how many of them lie before the first that it sees.
  int64_t Hidden(int64_t i, int64_t begin, int64_t end) const {
    const int64_t first = op.FirstSeen(first_position + i / group);
    return std::clamp<int64_t>(first - begin, 0, end - begin);
  }
  bool Sees(int64_t i, int64_t begin, int64_t end) const {
    return Seen(i, begin, end) > Hidden(i, begin, end);
  }
};

PanelAttention::PanelAttention(const KernelTable& kernels, int64_t head_dim, int64_t group,
                               int64_t kv_chunk)
    : kernels_(kernels), kv_chunk_(kv_chunk) {
  const Sizes sizes(*kernels.gemm, head_dim, group, kv_chunk);
  queries_ = AlignedBuffer(FloatBytes(sizes.queries * head_dim), "attention queries");
  prepared_ = AlignedBuffer(sizes.prepared, "attention queries");
  weights_ = AlignedBuffer(FloatBytes(sizes.queries * kv_chunk), "attention scores");
  rows_ = AlignedBuffer(RowsBytes(head_dim, kv_chunk), "attention keys and values");
  panels_ = AlignedBuffer(sizes.panels, "attention panels");
  products_ = AlignedBuffer(FloatBytes(sizes.queries * head_dim), "attention outputs");
  sums_ = AlignedBuffer(FloatBytes(sizes.queries * head_dim), "attention outputs");
  totals_ = AlignedBuffer(static_cast<uint64_t>(sizes.queries) * sizeof(Totals), "attention sums");
}

uint64_t PanelAttention::Bytes(const KernelTable& kernels, int64_t head_dim, int64_t group,
                               int64_t kv_chunk) {
  const Sizes sizes(*kernels.gemm, head_dim, group, kv_chunk);
  return 3 * FloatBytes(sizes.queries * head_dim) + FloatBytes(sizes.queries * kv_chunk) +
         RowsBytes(head_dim, kv_chunk) + sizes.prepared + sizes.panels +
         static_cast<uint64_t>(sizes.queries) * sizeof(Totals);
}

void PanelAttention::Run(const HostKvCache& cache, const AttentionOp& op, int64_t kv_head,
                         int64_t token_begin, int64_t token_end, const float* q, float* out) {
  const int64_t d = op.head_dim;
  const int64_t group = op.n_heads / op.n_kv_heads;
  const int64_t n_tokens = token_end - token_begin;
  DCHECK(n_tokens >= 1 && n_tokens <= TileTokens(group));
  const BatchRow& row = op.batch->row(token_begin);
  const Tile tile{cache,
                  op,
                  kv_head,
                  group,
                  op.PagesOf(row),
                  row.position,
                  op.EndSeen(row),
                  n_tokens * group,
                  KeyForm(*kernels_.gemm, cache.dtype())};
  // A token's heads of one KV head lie next to each other.
  const int64_t first_head = token_begin * op.n_heads + kv_head * group;
  for (int64_t t = 0; t < n_tokens; ++t) {
    std::copy_n(q + (first_head + t * op.n_heads) * d, group * d,
                queries_.as<float>() + t * group * d);
  }
  std::fill_n(sums_.as<float>(), tile.n_queries * d, 0.0F);
  std::fill_n(totals_.as<Totals>(), tile.n_queries, Totals{-INFINITY, 0, 0, 0});
  const int64_t n_kv = tile.EndSeen(tile.n_queries - 1);
  const int64_t first = op.FirstSeen(tile.first_position) / kv_chunk_ * kv_chunk_;
  for (int64_t begin = first; begin < n_kv; begin += kv_chunk_) {
    const int64_t end = std::min(begin + kv_chunk_, n_kv);
    Scores(tile, begin, end);
    WeighValues(tile, begin, end);
    Merge(tile, begin, end);
  }
  for (int64_t i = 0; i < tile.n_queries; ++i) {
    const float scale = 1.0F / totals_.as<Totals>()[i].sum;
    float* to = out + (first_head + i / group * op.n_heads + i % group) * d;
    std::fill_n(to, d, 0.0F);
    kernels_.accumulate_rows(DType::kF32, sums_.bytes() + FloatBytes(i * d), 0, &scale, nullptr, 1,
                             0, d, to);
  }
}

const std::byte* PanelAttention::Rows(const Tile& tile, bool values, int64_t begin, int64_t n) {
  const auto row_bytes = static_cast<size_t>(RowBytes(tile.cache.dtype(), tile.op.head_dim));
  std::byte* copy = rows_.bytes();
  const int64_t gone = std::clamp<int64_t>(tile.pages.first_position() - begin, 0, n);
  std::memset(copy, 0, static_cast<size_t>(gone) * row_bytes);
  copy += static_cast<size_t>(gone) * row_bytes;
  for (int64_t at = gone; at < n;) {
    const KvRun run = tile.cache.RunAt(tile.op.layer, tile.kv_head, tile.pages, begin + at, n - at);
    const std::byte* rows = values ? run.v : run.k;
    if (at == 0 && run.n_tokens >= n) return rows;
    std::memcpy(copy, rows, static_cast<size_t>(run.n_tokens) * row_bytes);
    copy += static_cast<size_t>(run.n_tokens) * row_bytes;
    at += run.n_tokens;
  }
  return rows_.bytes();
}

// Computes the weights of the chunk: e^(s - m) with each query's own m. Positions that a query does
// not see weigh nothing.
void PanelAttention::Scores(const Tile& tile, int64_t begin, int64_t end) {
  const GemmKernels& gemm = *kernels_.gemm;
  const int64_t d = tile.op.head_dim;
  const int64_t n = end - begin;
  const GemmForm form = tile.key_form;
  gemm.prepare(form, queries_.as<float>(), tile.n_queries, d, 0,
               gemm_tile_count(tile.n_queries, gemm.tile_tokens(form)), prepared_.bytes());
  const DType dtype = tile.cache.dtype();
  const int64_t row_bytes = RowBytes(dtype, d);
  const std::byte* keys = Rows(tile, false, begin, n);
  for (int64_t i = 0; i < n; i += kGemmPanel) {
    gemm.pack_rows(form, dtype, keys + i * row_bytes, row_bytes, std::min(kGemmPanel, n - i), 0, d,
                   {}, panels_.bytes() + i / kGemmPanel * gemm.panel_bytes(form, d));
  }
  auto* weights = weights_.as<float>();
  gemm.multiply({form,
                 panels_.bytes(),
                 n,
                 prepared_.bytes(),
                 tile.n_queries,
                 d,
                 0,
                 d,
                 false,
                 weights,
                 n,
                 {}});
  const AttentionOp& op = tile.op;
  const bool scaled = op.ScalesFirst();
  for (int64_t i = 0; i < tile.n_queries; ++i, weights += n) {
    const int64_t hidden = tile.Hidden(i, begin, end);
    const int64_t seen = tile.Seen(i, begin, end);
    Totals& totals = totals_.as<Totals>()[i];
    totals.chunk_sum = 0;
    if (seen > hidden) {
      float* const own = weights + hidden;
      if (scaled) kernels_.scale(own, seen - hidden, op.scale, op.soft_cap);
      if (op.bias.by_distance != nullptr) {
        AddRelativeBias(kernels_, op.bias, tile.kv_head * tile.group + i % tile.group,
                        tile.first_position + i / tile.group, begin + hidden, begin + seen, own);
      }
      totals.chunk_sum =
          kernels_.exp_scores(own, seen - hidden, scaled ? 1.0F : op.scale, &totals.chunk_m);
    }
    std::fill_n(weights, std::min(hidden, n), 0.0F);
    std::fill_n(weights + seen, n - seen, 0.0F);
  }
}

// Values are summed in f32 whatever their type, as they are for one token.
void PanelAttention::WeighValues(const Tile& tile, int64_t begin, int64_t end) {
  const GemmKernels& gemm = *kernels_.gemm;
  const int64_t d = tile.op.head_dim;
  const int64_t n = end - begin;
  gemm.prepare(GemmForm::kF32, weights_.as<float>(), tile.n_queries, n, 0,
               gemm_tile_count(tile.n_queries, gemm.tile_tokens(GemmForm::kF32)),
               prepared_.bytes());
  const DType dtype = tile.cache.dtype();
  gemm.pack_columns(GemmForm::kF32, dtype, Rows(tile, true, begin, n), RowBytes(dtype, d), n, 0, d,
                    panels_.bytes());
  gemm.multiply({GemmForm::kF32,
                 panels_.bytes(),
                 d,
                 prepared_.bytes(),
                 tile.n_queries,
                 n,
                 0,
                 n,
                 false,
                 products_.as<float>(),
                 d,
                 {}});
}

void PanelAttention::Merge(const Tile& tile, int64_t begin, int64_t end) {
  const int64_t d = tile.op.head_dim;
  for (int64_t i = 0; i < tile.n_queries; ++i) {
    if (!tile.Sees(i, begin, end)) continue;
    Totals& totals = totals_.as<Totals>()[i];
    const float m = std::max(totals.m, totals.chunk_m);
    const float before = std::exp(totals.m - m);
    const float added = std::exp(totals.chunk_m - m);
    float* sums = sums_.as<float>() + i * d;
    const float* products = products_.as<float>() + i * d;
    for (int64_t c = 0; c < d; ++c) sums[c] = sums[c] * before + products[c] * added;
    totals.sum = totals.sum * before + totals.chunk_sum * added;
    totals.m = m;
  }
}

}  // namespace thermocline
