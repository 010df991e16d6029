// The order in which a kernel takes rows and tokens, always inlined. One token's vector is loaded
// once for all rows. Several tokens share what was decoded of each row, and a token's vector is
// loaded when its turn comes.
#pragma once

namespace thermocline {

// Calls apply(r, token, decode(r), load(token)) for all rows and tokens. decode and load only read.
template <int kRows, int kTokens, class Load, class Decode, class Apply>
[[gnu::always_inline]] inline void each_row_and_token(const Load& load, const Decode& decode,
                                                      const Apply& apply) {
  if constexpr (kTokens == 1) {
    const auto x = load(0);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) apply(r, 0, decode(r), x);
  } else if constexpr (kRows == 1) {
    const auto w = decode(0);
#pragma GCC unroll 8
    for (int token = 0; token < kTokens; ++token) apply(0, token, w, load(token));
  } else {
    static_assert(kRows == 2);
    const auto first = decode(0);
    const auto second = decode(1);
#pragma GCC unroll 8
    for (int token = 0; token < kTokens; ++token) {
      const auto x = load(token);
      apply(0, token, first, x);
      apply(1, token, second, x);
    }
  }
}

}  // namespace thermocline
