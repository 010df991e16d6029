#include "runtime/device/gpu/gpu_weight_stream.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "gpu_kernels/base/plane_bytes.h"
#include "gpu_kernels/products/ffn.h"
#include "gpu_kernels/tokens/elementwise.h"
#include "runtime/core/checked_math.h"
#include "runtime/core/error.h"
#include "runtime/device/gpu/gpu_rows.h"
#include "runtime/device/gpu/gpu_wait.h"

namespace thermocline {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kBuffers = 2;
// What a piece's activations take is bounded by this: enough for a product to fill a GPU.
constexpr int64_t kMaxPieceNeurons = 2048;
constexpr int64_t kProbePieces = 4;

uint64_t MatrixBytes(const TensorView& w, int64_t n_rows) {
  return PlaneBytes(static_cast<uint64_t>(n_rows * GpuRowBytes(w.dtype, w.cols)));
}

int64_t MaxPieceNeurons(const WeightStreamLimits& limits) {
  return std::min(kMaxPieceNeurons, limits.max_neurons);
}

// Returns the bytes of a neuron: gate, up and down rows and two biases, in the widest type.
uint64_t WidestNeurons(const WeightStreamLimits& limits, int64_t n) {
  const auto row = static_cast<uint64_t>(GpuRowBytes(DType::kF32, limits.d_model));
  const auto count = static_cast<uint64_t>(n);
  return 3 * PlaneBytes(count * row) + 2 * PlaneBytes(count * sizeof(float));
}

uint64_t BufferBytes(const WeightStreamLimits& limits) {
  return std::clamp(limits.piece_bytes, WidestNeurons(limits, 1),
                    WidestNeurons(limits, std::max<int64_t>(1, MaxPieceNeurons(limits))));
}

uint64_t FloatBytes(int64_t n_tokens, int64_t width) {
  return static_cast<uint64_t>(n_tokens * width) * sizeof(float);
}

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

GpuWeightStream::Buffer::Buffer(uint64_t n_bytes)
    : staging(n_bytes, "streaming weights"), data(n_bytes, "streamed weights") {}

WeightStreamBytes GpuWeightStream::Bytes(const WeightStreamLimits& limits) {
  const int64_t n = limits.max_tokens;
  const int64_t neurons = MaxPieceNeurons(limits);
  const uint64_t buffers = kBuffers * BufferBytes(limits);
  return {buffers + GpuBatchBytes(limits.d_model, n) + GpuBatchBytes(neurons, n) +
              2 * FloatBytes(n, neurons) + FloatBytes(n, limits.d_model),
          buffers};
}

GpuWeightStream::GpuWeightStream(GpuDevice& gpu, const WeightStreamLimits& limits)
    : gpu_(gpu),
      limits_(limits),
      pack_row_(PackGpuRow),
      x_(GpuBatchBytes(limits.d_model, limits.max_tokens), "inputs of streamed neurons"),
      h_(GpuBatchBytes(MaxPieceNeurons(limits), limits.max_tokens), "streamed neurons"),
      gate_(FloatBytes(limits.max_tokens, MaxPieceNeurons(limits)), "streamed neurons"),
      up_(FloatBytes(limits.max_tokens, MaxPieceNeurons(limits)), "streamed neurons"),
      y_(FloatBytes(limits.max_tokens, limits.d_model), "outputs of streamed neurons") {
  CHECK(limits.max_neurons > 0 && limits.max_tokens > kMaxKeptTokens);
  buffers_.reserve(kBuffers);
  for (size_t i = 0; i < kBuffers; ++i) buffers_.emplace_back(BufferBytes(limits));
}

// Copies read the staging buffers until they are done.
GpuWeightStream::~GpuWeightStream() {
  try {
    BeginPass();
  } catch (const Error&) {
    under_way_ = false;  // the device has failed, and the pass that saw it has said so
  }
}

void GpuWeightStream::BeginPass() {
  if (!under_way_) return;
  copies_.Synchronize();
  gpu_.stream().Synchronize();
  under_way_ = false;
}

GpuWeightStream::Piece GpuWeightStream::MakePiece(const FfnSlice& slice, int64_t first, int64_t n) {
  const auto bias_bytes = [n](const float* bias) {
    return bias == nullptr ? 0 : PlaneBytes(static_cast<uint64_t>(n) * sizeof(float));
  };
  Piece piece{.first = first, .n = n};
  piece.up_at = MatrixBytes(slice.gate, n);
  piece.down_at = piece.up_at + (slice.is_gated() ? MatrixBytes(slice.up, n) : 0);
  piece.gate_bias_at = piece.down_at + MatrixBytes(slice.down, n);
  piece.up_bias_at = piece.gate_bias_at + bias_bytes(slice.gate_bias);
  piece.n_bytes = piece.up_bias_at + bias_bytes(slice.up_bias);
  return piece;
}

// Returns how many neurons go into a piece: as many as a buffer holds, evened out over the slice's
// pieces.
int64_t GpuWeightStream::PieceNeurons(const FfnSlice& slice) const {
  const uint64_t room = buffers_.front().data.size();
  int64_t fit = 1;
  int64_t too_many = std::min(MaxPieceNeurons(limits_), slice.n_neurons) + 1;
  while (too_many - fit > 1) {
    const int64_t n = (fit + too_many) / 2;
    (MakePiece(slice, 0, n).n_bytes <= room ? fit : too_many) = n;
  }
  return CeilDiv(slice.n_neurons, CeilDiv(slice.n_neurons, fit));
}

template <typename Body>
void GpuWeightStream::ForPieces(const FfnSlice& slice, const Body& body) {
  const int64_t n = PieceNeurons(slice);
  for (int64_t first = 0; first < slice.n_neurons; first += n) {
    body(MakePiece(slice, first, std::min(n, slice.n_neurons - first)));
  }
}

// Waits for the copy of the piece before the last.
void GpuWeightStream::AwaitStaging(Buffer& buffer) const {
  if (AwaitGpu(
          limits_.timeout_ms, [&] { return buffer.copied.Reached(); }, [] {}))
    return;
  throw Error({.what = "weights that are streamed to the GPU did not arrive there",
               .expected = fmt::format("within {} ms", limits_.timeout_ms),
               .hint = "leave them to the CPU",
               .settings = {{Setting::kGpuStream, "off"}}});
}

void GpuWeightStream::Pack(ThreadTeam& team, const FfnSlice& slice, const Piece& piece,
                           std::byte* out) const {
  const std::pair<const TensorView*, uint64_t> matrices[] = {
      {&slice.gate, 0}, {&slice.up, piece.up_at}, {&slice.down, piece.down_at}};
  team.Run([&](int thread) {
    const auto [begin, end] = Lane{thread, team.n_threads()}.Split(piece.n);
    for (const auto& [matrix, at] : matrices) {
      if (matrix->rows == 0) continue;  // up of a plain FFN
      const int64_t row_bytes = GpuRowBytes(matrix->dtype, matrix->cols);
      for (int64_t i = begin; i < end; ++i) {
        pack_row_(*matrix, piece.first + i, out + at + i * row_bytes);
      }
    }
  });
  const std::pair<const float*, uint64_t> biases[] = {{slice.gate_bias, piece.gate_bias_at},
                                                      {slice.up_bias, piece.up_bias_at}};
  for (const auto& [bias, at] : biases) {
    if (bias == nullptr) continue;
    std::memcpy(out + at, bias + piece.first, static_cast<size_t>(piece.n) * sizeof(float));
  }
}

// Packs a piece and has it copied; the buffer's data is there once `copied` is reached.
GpuWeightStream::Buffer& GpuWeightStream::Send(ThreadTeam& team, const FfnSlice& slice,
                                               const Piece& piece) {
  Buffer& buffer = buffers_[next_];
  next_ = (next_ + 1) % kBuffers;
  under_way_ = true;
  AwaitStaging(buffer);
  Pack(team, slice, piece, buffer.staging.host<std::byte>());
  copies_.Wait(buffer.consumed);
  copies_.Copy(buffer.data.as<void>(), buffer.staging.device<void>(), piece.n_bytes);
  copies_.Record(buffer.copied);
  gpu_.CountTraffic(BusLoad::kWeights, piece.n_bytes);
  return buffer;
}

void GpuWeightStream::Multiply(const FfnOp& op, const Piece& piece, const Buffer& buffer,
                               const GpuBatch& x, int64_t n, float* y, Into into) {
  const FfnSlice& slice = *op.slice;
  Stream& stream = gpu_.stream();
  const auto* const data = buffer.data.as<std::byte>();
  const auto matrix = [&](const TensorView& w, uint64_t at) {
    return MakeGpuMatrix(data + at, w.dtype, piece.n, w.cols);
  };
  const auto bias = [&](const float* in_host, uint64_t at) {
    return in_host == nullptr ? nullptr : reinterpret_cast<const float*>(data + at);
  };
  auto* const gate = gate_.as<float>();
  auto* const up = slice.is_gated() ? up_.as<float>() : nullptr;
  GpuBatchRows(stream, gpu_.gemm(), matrix(slice.gate, 0), nullptr, x, n, gpu_.Panel(), gate);
  if (up != nullptr) {
    GpuBatchRows(stream, gpu_.gemm(), matrix(slice.up, piece.up_at), nullptr, x, n, gpu_.Panel(),
                 up);
  }
  const GpuActivateOp activate{ActivationOf(op), bias(slice.gate_bias, piece.gate_bias_at), up,
                               bias(slice.up_bias, piece.up_bias_at)};
  GpuActivateMultiply(stream, activate, n, piece.n, gate);
  const GpuBatch h = MakeGpuBatch(h_.as<void>(), piece.n, n);
  GpuPrepareBatch(stream, gate, n, h);
  // A batch of large magnitudes is scaled as a whole, so that its product is added in a second
  // pass.
  auto* const part = into == Into::kReplace ? y : y_.as<float>();
  GpuBatchColumns(stream, gpu_.gemm(), matrix(slice.down, piece.down_at), h, n, gpu_.Panel(), part);
  if (into == Into::kAdd) GpuAdd(stream, y, part, n * slice.down.cols);
}

void GpuWeightStream::Ffn(ThreadTeam& team, const FfnOp& op, const float* x, int64_t n, float* y,
                          Into into) {
  const FfnSlice& slice = *op.slice;
  CHECK(slice.down_layout == DownLayout::kPerNeuron && n <= limits_.max_tokens);
  under_way_ = true;
  const GpuBatch batch = MakeGpuBatch(x_.as<void>(), slice.gate.cols, n);
  GpuPrepareBatch(gpu_.stream(), x, n, batch);
  ForPieces(slice, [&](const Piece& piece) {
    Buffer& buffer = Send(team, slice, piece);
    gpu_.stream().Wait(buffer.copied);
    Multiply(op, piece, buffer, batch, n, y, piece.first == 0 ? into : Into::kAdd);
    gpu_.stream().Record(buffer.consumed);
  });
}

int64_t GpuWeightStream::ProbeNeurons(const FfnSlice& slice) const {
  return std::min(slice.n_neurons, kProbePieces * PieceNeurons(slice));
}

StreamRates GpuWeightStream::Measure(ThreadTeam& team, const FfnOp& op, const float* x, int64_t n,
                                     float* y) {
  const FfnSlice& slice = *op.slice;
  const auto n_bytes = static_cast<double>(slice.weight_bytes());
  Ffn(team, op, x, n, y, Into::kReplace);  // reads pages in, and has cuBLAS load its code
  BeginPass();
  const auto start = Clock::now();
  ForPieces(slice, [&](const Piece& piece) { Send(team, slice, piece); });
  copies_.Synchronize();
  const double sent_s = SecondsSince(start);

  Event before(Event::Timing::kOn);
  Event after(Event::Timing::kOn);
  gpu_.stream().Record(before);
  const GpuBatch batch = MakeGpuBatch(x_.as<void>(), slice.gate.cols, n);
  ForPieces(slice, [&](const Piece& piece) {  // whatever lies in the buffer
    Multiply(op, piece, buffers_.front(), batch, n, y, Into::kAdd);
  });
  gpu_.stream().Record(after);
  BeginPass();
  const double multiplied_s = static_cast<double>(ElapsedMs(before, after)) / 1e3;
  constexpr double kLeastSeconds = 1e-9;  // below what clocks tell
  return {.bus_bytes_per_s = n_bytes / std::max(sent_s, kLeastSeconds),
          .gpu_token_bytes_per_s =
              n_bytes * static_cast<double>(n) / std::max(multiplied_s, kLeastSeconds)};
}

}  // namespace thermocline
