// Values of the types whose weights are looked up. A nibble of IQ4_NL and IQ4_XS stands for one of
// kUnevenNibbles, one of MXFP4 for a half of one of kFloatNibbles. The IQ2 and IQ3 types take eight
// (IQ2) or four (IQ3) magnitudes at once from a grid (quant_grids.h): a point of it is a number of
// 16 bits, two (three) of which, from the lowest on, pick each magnitude out of the grid's levels.
#pragma once

#include <cstdint>

namespace thermocline {

inline constexpr int8_t kUnevenNibbles[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                              1,    13,   25,  38,  53,  69,  89,  113};
inline constexpr int8_t kFloatNibbles[16] = {0, 1,  2,  3,  4,  6,  8,  12,
                                             0, -1, -2, -3, -4, -6, -8, -12};

inline constexpr int8_t kLevelsIq2[4] = {8, 25, 43, 0};
inline constexpr int8_t kLevelsIq3Xxs[8] = {4, 12, 20, 28, 36, 44, 52, 62};
inline constexpr int8_t kLevelsIq3S[8] = {1, 3, 5, 7, 9, 11, 13, 15};

}  // namespace thermocline
