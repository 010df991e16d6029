#include "tools/serve/reply_blocks.h"

#include <utility>

namespace thermocline {

void ReplyBlocks::CloseLast(std::vector<BlockEvent>* events) {
  if (!is_open_) return;
  is_open_ = false;
  events->push_back({BlockEvent::What::kClosed, blocks_.size() - 1});
}

void ReplyBlocks::Open(ReplyBlock block, std::vector<BlockEvent>* events) {
  CloseLast(events);
  blocks_.push_back(std::move(block));
  is_open_ = true;
  events->push_back({BlockEvent::What::kOpened, blocks_.size() - 1});
}

void ReplyBlocks::Grow(ReplyBlockKind kind, const std::string& text,
                       std::vector<BlockEvent>* events) {
  if (text.empty()) return;
  if (!is_open_ || blocks_.back().kind != kind)
    Open({.kind = kind, .text = {}, .call = {}}, events);
  blocks_.back().text += text;
  events->push_back({BlockEvent::What::kGrew, blocks_.size() - 1, text});
}

std::vector<BlockEvent> ReplyBlocks::Add(const ReplyDelta& delta) {
  std::vector<BlockEvent> events;
  Grow(ReplyBlockKind::kReasoning, delta.reasoning, &events);
  Grow(ReplyBlockKind::kText, delta.content, &events);
  for (const ToolCallDelta& call : delta.calls) {
    if (call.index >= n_calls_) {
      n_calls_ = call.index + 1;
      Open({.kind = ReplyBlockKind::kCall, .text = {}, .call = {call.id, call.name, ""}}, &events);
    }
    Grow(ReplyBlockKind::kCall, call.arguments, &events);
  }
  return events;
}

std::vector<BlockEvent> ReplyBlocks::Close() {
  std::vector<BlockEvent> events;
  CloseLast(&events);
  return events;
}

}  // namespace thermocline
