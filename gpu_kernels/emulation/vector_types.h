// CUDA's small vector types, dim3 and their make_ functions, for emulated builds.
#pragma once

#include <cstdint>

// clang-format off
#define EMULATED_VECTOR2(Name, Scalar, alignment)                                        \
  struct alignas(alignment) Name { Scalar x, y; };                                       \
  inline constexpr Name make_##Name(Scalar x, Scalar y) { return {x, y}; }
#define EMULATED_VECTOR4(Name, Scalar, alignment)                                        \
  struct alignas(alignment) Name { Scalar x, y, z, w; };                                 \
  inline constexpr Name make_##Name(Scalar x, Scalar y, Scalar z, Scalar w) { return {x, y, z, w}; }
// clang-format on

EMULATED_VECTOR2(char2, signed char, 2)
EMULATED_VECTOR2(uchar2, unsigned char, 2)
EMULATED_VECTOR2(short2, short, 4)
EMULATED_VECTOR2(ushort2, unsigned short, 4)
EMULATED_VECTOR2(int2, int, 8)
EMULATED_VECTOR2(uint2, unsigned int, 8)
EMULATED_VECTOR2(float2, float, 8)
EMULATED_VECTOR2(double2, double, 16)
EMULATED_VECTOR4(char4, signed char, 4)
EMULATED_VECTOR4(uchar4, unsigned char, 4)
EMULATED_VECTOR4(short4, short, 8)
EMULATED_VECTOR4(ushort4, unsigned short, 8)
EMULATED_VECTOR4(int4, int, 16)
EMULATED_VECTOR4(uint4, unsigned int, 16)
EMULATED_VECTOR4(float4, float, 16)

#undef EMULATED_VECTOR2
#undef EMULATED_VECTOR4

struct uint3 {
  unsigned int x, y, z;
};

struct dim3 {
  unsigned int x = 1, y = 1, z = 1;
  constexpr dim3(unsigned int x_size = 1, unsigned int y_size = 1, unsigned int z_size = 1)
      : x(x_size), y(y_size), z(z_size) {}
};
