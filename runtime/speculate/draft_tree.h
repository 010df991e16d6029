// What a draft proposes for one text: tokens that may follow it, each behind the text or behind
// another proposed token. The tree chooses and checks what goes into it, so that no source of
// drafts, however wrong, can change anything but speed:
//
//  * It draws by itself, from the distribution that the source names. Rejection sampling is exact
//    only where a token was truly drawn from that (Leviathan et al., arXiv:2211.17192).
//  * It decides whether a token is worth verifying before the token is drawn. To look at the drawn
//    token first and leave out the unlikely ones would bias the text.
//  * It leaves out what no text can have there: ids that are not the vocabulary's, chances that are
//    no probabilities, what the text's grammar forbids.
//  * Of the tokens behind one at most one is drawn, and it is the first. Whether that is accepted,
//    and what is drawn in its place where it is not, does not depend on the others: these are
//    compared with what came of it. So they may be chosen by any rule.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "runtime/sampling/next_logits.h"
#include "runtime/sampling/random.h"
#include "runtime/sampling/sampler.h"
#include "runtime/sampling/token_mask.h"
#include "runtime/speculate/confidence.h"

namespace thermocline {

struct DraftLimits {
  int64_t vocab_size = 0;
  int64_t max_depth = 0;     // most tokens behind each other
  int64_t max_nodes = 0;     // in all
  int64_t max_children = 1;  // most tokens that may follow the same one; 1: chains
  // Whether tokens may be drawn; else the likeliest are taken, and a seed's text is that of plain
  // decoding, token for token. Greedy texts are never drawn.
  bool draws = true;
  uint64_t seed = 0;  // of the draws
  // How likely a token must be to be accepted, with all before it, to be worth its time; by how
  // many tokens the tree has already. Behind their end, and empty: all are worth it. least_beside:
  // of one that follows the same token as another, which its source has computed with that.
  std::vector<double> least_chance = {};
  std::vector<double> least_beside = {};
  // Whether a token ends the text: nothing follows one. Null: none does.
  std::function<bool(int32_t)> ends_text = nullptr;
};

class DraftTree {
 public:
  static constexpr int32_t kText = -1;     // the parent of what follows the text itself
  static constexpr int32_t kNothing = -2;  // no node: the proposal was not taken

  struct Node {
    int32_t parent = kText;
    int32_t token = 0;
    int32_t depth = 0;      // 0: follows the text
    int32_t place = 0;      // among those behind its parent
    double confidence = 0;  // as the source gave it; NaN: it did not
    // That it is accepted where its parent is and those in front of its place are not; and that it
    // and all before it are.
    double own_chance = 1;
    double chance = 1;
    double share = 0;    // of what its source expects behind the parent; 0: it did not say
    int32_t source = 0;  // whose confidence it is (Confidence)
    std::vector<TokenChance> drawn_from = {};  // in the order of ids; empty: chosen, not drawn
  };

  // sampler, mask: of the text, as they are before its next token; mask may be null. confidence:
  // what is known of how far the source is right. All must outlive the tree.
  DraftTree(DraftLimits limits, const Sampler& sampler, const TokenMask* mask,
            const Confidence& confidence);
  DraftTree(DraftTree&&) noexcept;
  DraftTree& operator=(DraftTree&&) = delete;
  ~DraftTree();

  // ---- for sources ----

  // Whether anything, or anything more, may follow `parent`: asked before a source computes what.
  // False for kNothing.
  bool WantsMore(int32_t parent) const;
  // Whether what may follow `parent` is worth a pass of a model: where more is wanted, and what
  // will extend the draft there for nothing is not as good as certain.
  bool WantsPass(int32_t parent) const;
  // How many tokens may still follow `parent`, one behind the other.
  int64_t RoomBehind(int32_t parent) const;
  // Each proposes a token behind `parent` and returns its node, or kNothing where none is taken:
  // then the source goes no further there.
  //
  // A token that the source chose by whatever rule. confidence: how likely it is to be accepted
  // where its parent is, in [0, 1]; anything else: unknown.
  int32_t Add(int32_t parent, int32_t token, double confidence);
  // One drawn from a distribution (any order; what is not positive and finite is left out, the rest
  // is scaled to 1).
  int32_t AddDrawn(int32_t parent, std::span<const TokenChance> chances);
  // One by a model's logits, as the text's own sampler would choose it there: its penalties, top-k,
  // temperature and all else bear on the draft, too, so that both distributions lie close.
  int32_t AddFrom(int32_t parent, const NextLogits& logits);
  // For trees: what may follow `parent`, by logits as in AddFrom, or a token as in Add, which is
  // taken only when its turn comes. Of those behind a parent the first ones come first.
  void Offer(int32_t parent, const NextLogits& logits);
  void Offer(int32_t parent, int32_t token, double confidence);
  // Takes of all that was offered what is likeliest to be accepted with all before it, if that is
  // as likely as `least`. Returns its node, or kNothing where nothing is, or is worth it.
  int32_t TakeBest(double least);
  // Whether AddFrom and Offer take the likeliest tokens only, so that few logits are enough.
  bool takes_likeliest() const;
  int64_t max_children() const { return limits_.max_children; }
  // The sampler's: how many of the best logits decide (Sampler::n_deciding); 0: all are needed.
  int64_t n_deciding() const { return sampler_.n_deciding(); }
  // Which of several sources the following nodes come from: confidences are theirs.
  void set_source(int32_t source) {
    source_ = source;
    extension_ = nullptr;
    extends_ = false;
  }

  // The tokens from the text's end to this node, itself the last.
  std::vector<int32_t> PathTo(int32_t node) const;
  bool IsLeaf(int32_t node) const { return CountBehind(node) == 0; }

  // ---- for what extends a source's drafts by tokens that cost nothing to find ----

  // Before the source drafts: how certain what would follow `parent` is (as in Add; NaN: nothing
  // would).
  using Extension = std::function<double(int32_t parent)>;
  void set_extension(Extension extension) { extension_ = std::move(extension); }
  // The source is done: what follows extends its draft. Its certainty is learnt apart, and its rows
  // are all that it costs. What the source offered and did not take is gone.
  void BeginExtension();

  // ---- for who verifies ----

  bool empty() const { return nodes_.empty(); }
  // Tokens behind each other, of its longest path.
  int64_t depth() const;
  // The same of what its source drafted, without what extends that.
  int64_t drafted_depth() const;
  // Parents stand before children.
  std::span<const Node> nodes() const { return nodes_; }
  // The child of `parent` that has the token, or kNothing.
  int32_t ChildWith(int32_t parent, int32_t token) const;
  // Tells what came of it: the path to `last` was accepted (kText: nothing), and where it was
  // tested what follows that, no child of it.
  void Teach(int32_t last, bool tested, Confidence* confidence) const;
  // The drawn child of `parent`, which sampling must reckon with, if there is one.
  std::optional<Proposal> DrawnBehind(int32_t parent) const;

 private:
  // What waits for its turn.
  struct Offered {
    int32_t parent = kText;
    int32_t token = 0;
    double confidence = 0;  // where there is no share
    double share = 0;       // Node::share
    bool is_allowed = false;
    std::vector<TokenChance> drawn_from = {};
  };
  int32_t DepthBehind(int32_t parent) const;
  int32_t CountBehind(int32_t parent) const;
  // How likely `parent` is to be accepted with nothing that stands behind it.
  double ChanceLeft(int32_t parent) const;
  // How likely a token more must be to be accepted: the first behind its parent, or another.
  double LeastChance(bool first) const;
  double OwnChance(const Node& node) const;
  int32_t SourceNow() const { return extends_ ? Confidence::ExtensionOf(source_) : source_; }
  // What comes first behind `parent` and what beside it.
  std::vector<Offered> OffersFrom(int32_t parent, const NextLogits& logits);
  // As a node; its confidence is what it is by now.
  Node NodeOf(const Offered& offer) const;
  int32_t Take(Offered offer);
  // In the order of ids and 1 in all: what can be drawn. Empty: nothing.
  std::vector<TokenChance> Drawable(int32_t parent, std::span<const TokenChance> chances);
  int32_t Push(Node node);
  bool Allows(int32_t parent, int32_t token);
  // Makes the sampler's and the mask's copies stand behind `parent`.
  void StandBehind(int32_t parent);
  void Step(int32_t token);

  DraftLimits limits_;
  const Sampler& sampler_;
  const TokenMask* mask_;
  const Confidence* confidence_;
  Random random_;
  std::vector<Node> nodes_;
  std::vector<Offered> offers_;
  int32_t source_ = 0;
  Extension extension_;  // null: there is none
  bool extends_ = false;
  std::unique_ptr<Sampler> copy_;  // where something asked for it
  std::unique_ptr<TokenMask> mask_copy_;
  int32_t standing_ = kText;  // the node that the copies stand behind
};

}  // namespace thermocline
