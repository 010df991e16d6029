// Cold neurons' weights, streamed to the GPU for batches: a stream of its own copies the pieces,
// the device's stream multiplies them, and events say when a buffer is full and when it is free.
#pragma once

#include <cstdint>
#include <vector>

#include "gpu_kernels/base/device_memory.h"
#include "gpu_kernels/base/stream.h"
#include "gpu_kernels/products/batch_gemm.h"
#include "runtime/device/gpu/gpu_device.h"
#include "runtime/device/weight_stream.h"

namespace thermocline {

class GpuWeightStream final : public WeightStream {
 public:
  // Throws Error when there is no memory. The device must outlive it and be made for batches.
  GpuWeightStream(GpuDevice& gpu, const WeightStreamLimits& limits);
  ~GpuWeightStream() override;
  static WeightStreamBytes Bytes(const WeightStreamLimits& limits);

  void BeginPass() override;
  void Ffn(ThreadTeam& team, const FfnOp& op, const float* x, int64_t n, float* y,
           Into into) override;
  int64_t ProbeNeurons(const FfnSlice& slice) const override;
  StreamRates Measure(ThreadTeam& team, const FfnOp& op, const float* x, int64_t n,
                      float* y) override;
  void set_row_packer(RowPacker packer) override { pack_row_ = std::move(packer); }

 private:
  // Neurons [first, first + n) of a slice, and where their matrices begin in a buffer.
  struct Piece {
    int64_t first = 0;
    int64_t n = 0;
    uint64_t up_at = 0;
    uint64_t down_at = 0;
    uint64_t gate_bias_at = 0;
    uint64_t up_bias_at = 0;
    uint64_t n_bytes = 0;
  };
  struct Buffer {
    explicit Buffer(uint64_t n_bytes);
    MappedMemory staging;
    DeviceMemory data;
    Event copied;    // on the copy stream: `staging` is free, `data` is full
    Event consumed;  // on the device's stream: `data` is free
  };

  static Piece MakePiece(const FfnSlice& slice, int64_t first, int64_t n);
  int64_t PieceNeurons(const FfnSlice& slice) const;
  template <typename Body>
  void ForPieces(const FfnSlice& slice, const Body& body);

  void AwaitStaging(Buffer& buffer) const;
  void Pack(ThreadTeam& team, const FfnSlice& slice, const Piece& piece, std::byte* out) const;
  Buffer& Send(ThreadTeam& team, const FfnSlice& slice, const Piece& piece);
  void Multiply(const FfnOp& op, const Piece& piece, const Buffer& buffer, const GpuBatch& x,
                int64_t n, float* y, Into into);

  GpuDevice& gpu_;
  WeightStreamLimits limits_;
  RowPacker pack_row_;
  DeviceMemory x_;     // GpuBatch of the FFN's input
  DeviceMemory h_;     // GpuBatch of a piece's neurons
  DeviceMemory gate_;  // (max_tokens, neurons of a piece) f32
  DeviceMemory up_;    // the same
  DeviceMemory y_;     // (max_tokens, d_model) f32: a piece's part of the output
  Stream copies_;
  std::vector<Buffer> buffers_;
  size_t next_ = 0;         // buffer
  bool under_way_ = false;  // something may be, as far as the host knows
};

}  // namespace thermocline
