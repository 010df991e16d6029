// A reply as a row of blocks of one kind each, in the order in which the model wrote them:
// thoughts, text, calls of tools. The APIs whose streams open and close blocks write them from
// this.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tools/serve/generation.h"

namespace thermocline {

enum class ReplyBlockKind : unsigned char { kReasoning, kText, kCall };

struct ReplyBlock {
  ReplyBlockKind kind = ReplyBlockKind::kText;
  std::string text;  // a call's arguments
  ParsedCall call;   // of a call: id and name
};

struct BlockEvent {
  enum class What : unsigned char { kOpened, kGrew, kClosed };
  What what = What::kOpened;
  size_t index = 0;
  std::string text = {};  // kGrew: by what
};

class ReplyBlocks {
 public:
  const std::vector<ReplyBlock>& blocks() const { return blocks_; }
  // Adds a delta; returns what happened, in order.
  std::vector<BlockEvent> Add(const ReplyDelta& delta);
  // Closes the last block.
  std::vector<BlockEvent> Close();

 private:
  void Grow(ReplyBlockKind kind, const std::string& text, std::vector<BlockEvent>* events);
  void Open(ReplyBlock block, std::vector<BlockEvent>* events);
  void CloseLast(std::vector<BlockEvent>* events);

  std::vector<ReplyBlock> blocks_;
  bool is_open_ = false;
  size_t n_calls_ = 0;
};

}  // namespace thermocline
