#include "runtime/schedule/prefix_cache.h"

#include <algorithm>
#include <utility>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

std::vector<int32_t> PageTokens(std::span<const int32_t> ids, int64_t page) {
  const auto tokens =
      ids.subspan(static_cast<size_t>(page * kKvPageTokens), static_cast<size_t>(kKvPageTokens));
  return {tokens.begin(), tokens.end()};
}

}  // namespace

size_t PrefixCache::KeyHash::operator()(const std::vector<int32_t>& tokens) const {
  uint64_t hash = 0xcbf29ce484222325;  // FNV-1a, a token at a time
  for (const int32_t token : tokens) {
    hash = (hash ^ static_cast<uint32_t>(token)) * 0x100000001b3;
    hash ^= hash >> 29;
  }
  return hash;
}

PrefixCache::PrefixCache(KvSequences& kv, HostPages* host)
    : kv_(kv), host_(host), oldest_first_(kv.n_classes()) {}

PrefixCache::~PrefixCache() {
  for (size_t c = 0; c < oldest_first_.size(); ++c) {
    for (const Node* node : oldest_first_[c]) kv_.LetGo(node->pages[c], c);
  }
}

std::shared_ptr<PrefixCache::Node> PrefixCache::RootOf(const TextKind& kind) {
  std::shared_ptr<Node>& root = roots_[kind];
  if (root == nullptr) {
    root = std::make_shared<Node>();
    root->kind = &roots_.find(kind)->first;
  }
  return root;
}

std::vector<PrefixCache::Node*> PrefixCache::PathOf(const TextKind& kind,
                                                    std::span<const int32_t> ids,
                                                    int64_t max_pages) const {
  std::vector<Node*> path;
  const auto root = roots_.find(kind);
  if (root == roots_.end()) return path;
  const Node* node = root->second.get();
  const int64_t n_pages = std::min(max_pages, static_cast<int64_t>(ids.size()) / kKvPageTokens);
  for (int64_t page = 0; page < n_pages; ++page) {
    const auto child = node->children.find(PageTokens(ids, page));
    if (child == node->children.end()) break;
    path.push_back(child->second.get());
    node = path.back();
  }
  return path;
}

// The first page of a class that the row behind n_pages pages sees.
int64_t PrefixCache::FirstPage(size_t page_class, int64_t n_pages) const {
  return kv_.page_class(page_class).FirstSeen(n_pages * kKvPageTokens) / kKvPageTokens;
}

bool PrefixCache::CanTakeUp(std::span<Node* const> path, int64_t n_pages) const {
  for (size_t c = 0; c < kv_.n_classes(); ++c) {
    for (int64_t page = n_pages - 1; page >= FirstPage(c, n_pages); --page) {
      if (!path[static_cast<size_t>(page)]->Has(c)) return false;
    }
  }
  return true;
}

bool PrefixCache::IsInCache(std::span<Node* const> path, int64_t n_pages) const {
  for (size_t c = 0; c < kv_.n_classes(); ++c) {
    for (int64_t page = FirstPage(c, n_pages); page < n_pages; ++page) {
      if (path[static_cast<size_t>(page)]->pages[c] < 0) return false;
    }
  }
  return true;
}

int64_t PrefixCache::Find(const TextKind& kind, std::span<const int32_t> ids, int64_t max_tokens) {
  const std::vector<Node*> path = PathOf(kind, ids, max_tokens / kKvPageTokens);
  auto n_pages = static_cast<int64_t>(path.size());
  while (n_pages > 0 && !CanTakeUp(path, n_pages)) --n_pages;
  return n_pages * kKvPageTokens;
}

int64_t PrefixCache::BringBack(const TextKind& kind, std::span<const int32_t> ids, int64_t n_tokens,
                               const MakeRoom& make_room) {
  auto n_pages = n_tokens / kKvPageTokens;
  const std::vector<Node*> path = PathOf(kind, ids, n_pages);
  CHECK(static_cast<int64_t>(path.size()) == n_pages && CanTakeUp(path, n_pages));
  for (Node* const node : path) node->held = true;
  bool has_room = true;
  for (size_t c = 0; c < kv_.n_classes() && has_room; ++c) {
    for (int64_t page = FirstPage(c, n_pages); page < n_pages && has_room; ++page) {
      has_room = MoveBack(path[static_cast<size_t>(page)], c, make_room);
    }
  }
  for (Node* const node : path) node->held = false;
  while (n_pages > 0 && !IsInCache(path, n_pages)) --n_pages;
  return n_pages * kKvPageTokens;
}

// Returns whether the page is in the cache.
bool PrefixCache::MoveBack(Node* node, size_t page_class, const MakeRoom& make_room) {
  if (node->pages[page_class] >= 0) return true;
  while (kv_.pool(page_class).n_free() == 0) {
    if (!make_room(page_class)) return false;
  }
  const Node* const parent = node->parent;
  const int32_t before = parent->parent == nullptr ? -1 : parent->pages[page_class];
  const int32_t page = kv_.Take(page_class, before);
  host_->CopyBack(*node->copies[page_class], page_class, page);
  ListPage(node, page_class, page);
  return true;
}

std::vector<int32_t> PrefixCache::PagesOf(const TextKind& kind, std::span<const int32_t> ids,
                                          size_t page_class) const {
  std::vector<int32_t> pages;
  for (const Node* node : PathOf(kind, ids, static_cast<int64_t>(ids.size()) / kKvPageTokens)) {
    if (!node->Has(page_class)) break;
    if (node->pages[page_class] >= 0) pages.push_back(node->pages[page_class]);
  }
  return pages;
}

int32_t PrefixCache::TakeUp(const TextKind& kind, std::span<const int32_t> ids, int64_t n_tokens,
                            Place* place) {
  const int64_t n_pages = n_tokens / kKvPageTokens;
  const std::vector<Node*> path = PathOf(kind, ids, n_pages);
  CHECK(static_cast<int64_t>(path.size()) == n_pages && IsInCache(path, n_pages));
  std::vector<std::vector<int32_t>> pages(kv_.n_classes());
  std::vector<KvPageTable> tables;
  for (size_t c = 0; c < kv_.n_classes(); ++c) {
    const int64_t first = FirstPage(c, n_pages);
    for (int64_t page = first; page < n_pages; ++page) {
      pages[c].push_back(path[static_cast<size_t>(page)]->pages[c]);
    }
    tables.push_back({std::min(first, n_pages), pages[c]});
  }
  Touch(path);
  *place = {};
  if (!path.empty()) place->node_ = path.back()->shared_from_this();
  place->n_pages_ = n_pages;
  return kv_.AddFrom(tables, n_tokens);
}

void PrefixCache::Keep(const TextKind& kind, std::span<const int32_t> ids, int32_t sequence,
                       Place* place) {
  const int64_t n_pages = kv_.length(sequence) / kKvPageTokens;
  if (place->n_pages_ >= n_pages) return;
  if (place->node_ == nullptr || place->node_->gone) {
    place->node_ = RootOf(kind);
    place->n_pages_ = 0;
  }
  for (; place->n_pages_ < n_pages; ++place->n_pages_) {
    std::vector<int32_t> tokens = PageTokens(ids, place->n_pages_);
    std::shared_ptr<Node>& child = place->node_->children[tokens];
    if (child == nullptr) {
      child = std::make_shared<Node>();
      child->parent = place->node_.get();
      child->tokens = std::move(tokens);
      child->pages.assign(kv_.n_classes(), -1);
      child->in_use.resize(kv_.n_classes());
      child->copies.resize(kv_.n_classes());
      child->copy_in_use.resize(kv_.n_classes());
    }
    child->last_use = Now();
    for (size_t c = 0; c < kv_.n_classes(); ++c) {
      const KvPageTable table = kv_.table(sequence, c);
      const int64_t position = place->n_pages_ * kKvPageTokens;
      if (child->pages[c] < 0 && table.Has(position)) {
        KeepPage(child.get(), c, table.PageOf(position));
      }
    }
    place->node_ = std::shared_ptr<Node>(child);
  }
}

void PrefixCache::Forget(const TextKind& kind, std::span<const int32_t> ids) {
  std::vector<Node*> path = PathOf(kind, ids, static_cast<int64_t>(ids.size()) / kKvPageTokens);
  while (!path.empty() && path.back()->children.empty()) {
    Node* const node = path.back();
    path.pop_back();
    for (size_t c = 0; c < kv_.n_classes(); ++c) {
      const int32_t page = node->pages[c];
      if (page >= 0 && kv_.pool(c).references(page) > 1) return;
    }
    const std::shared_ptr<Node> kept_alive = node->shared_from_this();
    for (size_t c = 0; c < kv_.n_classes(); ++c) {
      if (node->pages[c] >= 0) DropPage(node, c);
      if (node->copies[c] != nullptr) DropCopy(node, c);
    }
    Prune(node);
  }
}

void PrefixCache::Touch(std::span<Node* const> path) {
  // The last page first, so that it is older than those that it needs.
  for (auto node = path.rbegin(); node != path.rend(); ++node) {
    (*node)->last_use = Now();
    for (size_t c = 0; c < kv_.n_classes(); ++c) {
      NodeList& list = oldest_first_[c];
      if ((*node)->pages[c] >= 0) list.splice(list.end(), list, (*node)->in_use[c]);
      if ((*node)->copies[c] == nullptr) continue;
      copies_.splice(copies_.end(), copies_, (*node)->copy_in_use[c]);
    }
  }
}

void PrefixCache::KeepPage(Node* node, size_t page_class, int32_t page) {
  kv_.Hold(page, page_class);
  ListPage(node, page_class, page);
}

void PrefixCache::ListPage(Node* node, size_t page_class, int32_t page) {
  node->pages[page_class] = page;
  NodeList& list = oldest_first_[page_class];
  node->in_use[page_class] = list.insert(list.end(), node);
}

void PrefixCache::DropPage(Node* node, size_t page_class) {
  kv_.LetGo(node->pages[page_class], page_class);
  node->pages[page_class] = -1;
  oldest_first_[page_class].erase(node->in_use[page_class]);
}

void PrefixCache::CopyToHost(Node* node, size_t page_class) {
  if (host_ == nullptr || node->copies[page_class] != nullptr) return;
  if (host_->PageBytes(page_class) > host_->max_bytes()) return;
  while (!host_->HasRoomFor(page_class)) {
    if (!DropOldestCopy()) return;
  }
  try {
    node->copies[page_class] = host_->CopyOut(page_class, node->pages[page_class]);
  } catch (const Error&) {
    return;  // the memory is not there: the page is computed again when it is wanted
  }
  node->copy_in_use[page_class] = copies_.insert(copies_.end(), {node, page_class});
}

void PrefixCache::DropCopy(Node* node, size_t page_class) {
  node->copies[page_class].reset();
  copies_.erase(node->copy_in_use[page_class]);
}

// One whose page is in the cache, too, if there is one: that costs a copy at most.
bool PrefixCache::DropOldestCopy() {
  const auto may_go = [](const auto& copy) { return !copy.first->held; };
  auto oldest = std::ranges::find_if(copies_, [&](const auto& copy) {
    return may_go(copy) && copy.first->pages[copy.second] >= 0;
  });
  if (oldest == copies_.end()) oldest = std::ranges::find_if(copies_, may_go);
  if (oldest == copies_.end()) return false;
  Node* const node = oldest->first;
  DropCopy(node, oldest->second);
  Prune(node);
  return true;
}

// Takes nodes out of the tree that hold nothing and lead to nothing.
void PrefixCache::Prune(Node* node) {
  while (node->children.empty() && !node->gone &&
         std::ranges::all_of(node->pages, [](int32_t page) { return page < 0; }) &&
         std::ranges::all_of(node->copies, [](const auto& copy) { return copy == nullptr; })) {
    node->gone = true;
    Node* const parent = node->parent;
    if (parent == nullptr) {
      const TextKind kind = *node->kind;
      roots_.erase(kind);
      return;
    }
    const std::vector<int32_t> tokens = node->tokens;
    parent->children.erase(tokens);
    node = parent;
  }
}

PrefixCache::Node* PrefixCache::Oldest(size_t page_class) const {
  for (Node* const node : oldest_first_[page_class]) {
    if (node->held) continue;
    if (kv_.pool(page_class).references(node->pages[page_class]) == 1) return node;
  }
  return nullptr;
}

int64_t PrefixCache::n_kept(size_t page_class) const {
  return std::ranges::count_if(oldest_first_[page_class], [&](const Node* node) {
    return kv_.pool(page_class).references(node->pages[page_class]) == 1;
  });
}

uint64_t PrefixCache::oldest_use(size_t page_class) const {
  const Node* const node = Oldest(page_class);
  return node == nullptr ? kNever : node->last_use;
}

bool PrefixCache::DropOldest(size_t page_class, bool copied) {
  Node* const node = Oldest(page_class);
  if (node == nullptr) return false;
  if (copied) CopyToHost(node, page_class);
  DropPage(node, page_class);
  Prune(node);
  return true;
}

bool PrefixCache::LetGoOf(size_t page_class, int32_t page) {
  const NodeList& list = oldest_first_[page_class];
  const auto found =
      std::ranges::find_if(list, [&](const Node* node) { return node->pages[page_class] == page; });
  if (found == list.end()) return false;
  Node* const node = *found;
  DropPage(node, page_class);
  Prune(node);
  return true;
}

}  // namespace thermocline
