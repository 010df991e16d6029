// Which tokens may come next: what constrains a text to a grammar (runtime/grammar). A mask is the
// state of one text; the sampler asks it before every token and tells it each that was chosen.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

namespace thermocline {

// Words of a set of ids, a bit each.
inline constexpr int64_t TokenMaskWords(int64_t vocab_size) { return (vocab_size + 31) / 32; }

inline bool HasToken(std::span<const uint32_t> set, int32_t id) {
  const auto word = static_cast<size_t>(id) / 32;
  return word < set.size() && ((set[word] >> (static_cast<uint32_t>(id) % 32)) & 1U) != 0;
}

// Used on one thread at a time. What masks share (a compiled grammar) is theirs to guard.
class TokenMask {
 public:
  virtual ~TokenMask() = default;

  // Whether anything is forbidden now. While nothing is (a grammar that waits for its trigger), the
  // sampler asks no more of the mask than Accept.
  virtual bool constrains() const = 0;
  // Makes `allowed` the set of ids that may come next: bit id % 32 of word id / 32. Those that end
  // the text (which the mask was made with) are among them where the text may end here, and nothing
  // else is where it must. allowed: TokenMaskWords(vocab_size). REQUIRES: constrains().
  virtual void Fill(std::span<uint32_t> allowed) = 0;
  // Whether Fill would set the bit of `id`: for the few best tokens, where those decide. Cheaper
  // than Fill for a few ids. REQUIRES: constrains().
  virtual bool Allows(int32_t id) = 0;
  // `id` is the text's next token. Throws Error for one that is not allowed.
  virtual void Accept(int32_t id) = 0;
  // The same state, for another continuation of the same text.
  virtual std::unique_ptr<TokenMask> Clone() const = 0;
};

}  // namespace thermocline
