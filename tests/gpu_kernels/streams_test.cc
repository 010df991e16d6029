#include "gpu_kernels/tokens/streams.h"

#include <algorithm>
#include <cmath>

#include "tests/gpu_kernels/gpu_test.h"
#include "tests/gpu_kernels/random_values.h"

namespace thermocline {
namespace {

constexpr double kRounding = 0x1p-24;

struct StreamsCase {
  size_t n_streams;
  size_t active;
  size_t n_rows;
  size_t width;
};

// Streams in memory of the device, with coefficients for n_c mixtures.
struct StreamsInputs {
  StreamsInputs(const StreamsCase& shape, size_t n_c)
      : c(shape),
        streams(RandomValues(c.n_streams * c.n_rows * c.width, 1)),
        route(RandomValues(c.n_rows * c.n_streams, 2)),
        coef(RandomValues(n_c * c.n_streams, 3)),
        x(RandomValues(c.n_rows * c.width, 4)),
        streams_device(stream, streams),
        route_device(stream, route),
        coef_device(stream, coef),
        x_device(stream, x) {}

  GpuStreams op() const {
    return {.streams = streams_device.data(),
            .route = route_device.data(),
            .coef = coef_device.data(),
            .n_streams = static_cast<int64_t>(c.n_streams),
            .active = static_cast<int64_t>(c.active),
            .n_rows = static_cast<int64_t>(c.n_rows),
            .width = static_cast<int64_t>(c.width)};
  }
  double Mixture(size_t row, size_t i) const {
    double sum = 0;
    for (size_t j = 0; j < c.n_streams; ++j) {
      sum += static_cast<double>(coef[i * c.n_streams + j]) * route[row * c.n_streams + j];
    }
    return sum;
  }
  size_t At(size_t s, size_t row, size_t column) const {
    return (s * c.n_rows + row) * c.width + column;
  }
  // Calls fn for every element of every stream.
  template <typename Fn>
  void ForElements(const Fn& fn) const {
    for (size_t s = 0; s < c.n_streams; ++s) {
      for (size_t row = 0; row < c.n_rows; ++row) {
        for (size_t column = 0; column < c.width; ++column) fn(s, row, column);
      }
    }
  }

  StreamsCase c;
  Stream stream;
  std::vector<float> streams, route, coef, x;
  OnDevice<float> streams_device, route_device, coef_device, x_device;
};

constexpr StreamsCase kCases[] = {{2, 1, 1, 1}, {4, 0, 3, 130}, {4, 2, 2, 256}, {16, 5, 2, 33}};

using GpuStreamsTest = GpuTest;

// All values are below 1, sums of n of them have n roundings, and there is a sum within a sum.
TEST_F(GpuStreamsTest, PredictsAllStreamsFromWhatTheyWere) {
  for (const StreamsCase& c : kCases) {
    InEveryOrder([&] {
      StreamsInputs in(c, c.n_streams * c.n_streams);
      GpuPredictStreams(in.stream, in.op(), in.x_device.data());
      const std::vector<float> streams = in.streams_device.Read();
      const std::vector<float> x = in.x_device.Read();
      const auto n = static_cast<double>(c.n_streams);
      in.ForElements([&](size_t s, size_t row, size_t column) {
        double expected = in.streams[in.At(s, row, column)];
        for (size_t j = 0; j < c.n_streams; ++j) {
          expected += in.Mixture(row, s * c.n_streams + j) * in.streams[in.At(j, row, column)];
        }
        const float found = streams[in.At(s, row, column)];
        ASSERT_NEAR(found, expected, kRounding * 4 * (n * n + n + 1) * n) << s << " " << column;
        if (s == c.active) {
          ASSERT_EQ(x[row * c.width + column], found);
        }
      });
    });
  }
}

TEST_F(GpuStreamsTest, CorrectsAllStreamsByWhatChanged) {
  for (const StreamsCase& c : kCases) {
    InEveryOrder([&] {
      StreamsInputs in(c, c.n_streams);
      GpuCorrectStreams(in.stream, in.op(), in.x_device.data());
      const std::vector<float> streams = in.streams_device.Read();
      const auto n = static_cast<double>(c.n_streams);
      in.ForElements([&](size_t s, size_t row, size_t column) {
        const double change = static_cast<double>(in.x[row * c.width + column]) -
                              in.streams[in.At(c.active, row, column)];
        const double expected =
            in.streams[in.At(s, row, column)] + (1 + in.Mixture(row, s)) * change;
        ASSERT_NEAR(streams[in.At(s, row, column)], expected, kRounding * 8 * (n + 2) * (n + 2))
            << s << " " << column;
      });
    });
  }
}

double MeanSquareOf(const std::vector<float>& values, size_t row, size_t width) {
  double sum = 0;
  for (size_t i = 0; i < width; ++i) {
    const double value = values[row * width + i];
    sum += value * value;
  }
  return sum / static_cast<double>(width);
}

// A row of nothing stays nothing, and one that is almost that does not explode.
TEST_F(GpuStreamsTest, RowsGetTheSizeOfOthers) {
  constexpr float kLeast = 1e-5F;
  constexpr size_t kRows = 3;
  for (const size_t width : {1, 33, 512, 1000}) {
    InEveryOrderIf(width == 33, [&] {
      Stream stream;
      const std::vector<float> like = RandomValues(kRows * width, 1);
      std::vector<float> x = RandomValues(kRows * width, 2);
      std::fill_n(x.begin(), width, 0.0F);
      std::fill_n(x.begin() + static_cast<std::ptrdiff_t>(width), width, 1e-6F);
      const OnDevice<float> like_device(stream, like), x_device(stream, x);
      GpuMatchRms(stream, like_device.data(), kLeast, kRows, static_cast<int64_t>(width),
                  x_device.data());
      const std::vector<float> found = x_device.Read();
      for (size_t i = 0; i < found.size(); ++i) {
        const size_t row = i / width;
        const double own = std::max(MeanSquareOf(x, row, width), double{kLeast});
        const double expected = x[i] * std::sqrt(MeanSquareOf(like, row, width) / own);
        ASSERT_NEAR(found[i], expected,
                    kRounding * (static_cast<double>(width) + 8) * std::abs(expected))
            << "row " << row << " of " << width;
      }
    });
  }
}

}  // namespace
}  // namespace thermocline
