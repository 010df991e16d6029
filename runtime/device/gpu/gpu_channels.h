// Inputs of matrices on the GPU of which small channels are left out, and products with matrices
// stored by column.
#pragma once

#include <cstdint>
#include <vector>

#include "gpu_kernels/base/device_memory.h"
#include "gpu_kernels/base/pass_inputs.h"
#include "gpu_kernels/base/stream.h"
#include "gpu_kernels/products/channels.h"
#include "runtime/device/channel_cuts.h"

namespace thermocline {

class GpuChannels {
 public:
  struct Limits {
    int64_t n_layers = 0;
    int64_t max_tokens = 0;        // of a pass
    int64_t max_input = 0;         // longest input of a product
    uint64_t workspace_bytes = 0;  // GpuColumnsBytes of any matrix and kGemmMinTokens - 1 tokens
  };
  explicit GpuChannels(const Limits& limits);
  static uint64_t Bytes(const Limits& limits);

  // A cut that something was counted of, in the pass at hand.
  struct Note {
    int32_t counter = 0;
    std::atomic<int64_t>* kept = nullptr;
  };
  void BeginPass() { notes_.clear(); }
  const std::vector<Note>& notes() const { return notes_; }
  void set_notes(const std::vector<Note>& notes) { notes_ = notes; }
  // Enqueues the way of the counts to the host; AddCounts adds them up behind it, once a pass.
  uint64_t SendCounts(Stream& stream);
  void AddCounts();

  // What a kernel applies. rows: of the pass.
  static GpuRowCut CutOf(const ChannelCut& cut, const GpuPass& pass);

  // The channels of few tokens that a cut keeps, in memory that the next list overwrites. listed:
  // as GpuListChannels says. x: (n, d).
  GpuChannelList List(Stream& stream, const ChannelCut& cut, const GpuRowCut& row_cut,
                      const float* x, int64_t n, int64_t d, int32_t* listed);
  // Writes x with 0 for what is left out to out, and returns it. out: null for memory that the next
  // call overwrites; may be x.
  const float* Cut(Stream& stream, const ChannelCut& cut, const GpuRowCut& row_cut, const float* x,
                   int64_t n, int64_t d, float* out = nullptr);
  // As GpuAddColumns says.
  void Multiply(Stream& stream, const GpuMatrix& w, const GpuChannelList& list, int64_t n,
                const float* bias, float* y);

 private:
  // Where the kept channels of a cut are counted, which is noted.
  int32_t* Counter(const ChannelCut& cut);

  std::vector<Note> notes_;
  DeviceMemory x_;       // (max_tokens, max_input) f32
  DeviceMemory rows_;    // (kGemmMinTokens - 1, max_input) i32
  DeviceMemory values_;  // the same f32
  DeviceMemory counts_;  // (max_tokens) i32
  DeviceMemory workspace_;
  DeviceMemory kept_;       // (n_layers, kCutMatrices) i32
  MappedMemory host_kept_;  // the same
};

}  // namespace thermocline
