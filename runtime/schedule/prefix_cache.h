// Keeps pages of the KV cache beyond the texts that filled them, to begin other texts with (vLLM's
// automatic prefix caching). A page is known by its tokens, by all before them, and by what the
// text was fed with (its kind); nothing is taken for another's by a hash alone: whole pages of
// tokens are compared. Pages that nobody else uses are given back where there are too few, those
// that were not used for longest first, and of one text the last ones first. Where there is room in
// the host's memory beside the cache (runtime/schedule/host_pages.h), copies of them stay there,
// and are written back when a text begins with them.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "runtime/device/kv_pages.h"
#include "runtime/schedule/host_pages.h"

namespace thermocline {

// What keys and values depend on beside the tokens, and who may share them.
struct TextKind {
  int32_t adapter_set = 0;
  std::string salt = {};

  bool operator==(const TextKind&) const = default;
  bool operator<(const TextKind& other) const {
    return std::tie(adapter_set, salt) < std::tie(other.adapter_set, other.salt);
  }
};

class PrefixCache {
  struct Node;

 public:
  // What is given must outlive it. host: where copies of pages go; null: nowhere.
  explicit PrefixCache(KvSequences& kv, HostPages* host = nullptr);
  ~PrefixCache();

  // How far the pages of a text are known here: what Keep goes on from.
  class Place {
   public:
    int64_t n_pages() const { return n_pages_; }

   private:
    friend class PrefixCache;
    std::shared_ptr<Node> node_;
    int64_t n_pages_ = 0;
  };

  // The longest beginning of a text that can be taken up: whole pages, no more than max_tokens, and
  // of every page class what the next row sees, in the cache or the host's memory.
  int64_t Find(const TextKind& kind, std::span<const int32_t> ids, int64_t max_tokens);
  // Writes back what the first n_tokens of a text, as Find returned them, have in the host's memory
  // alone. make_room(page_class) is to free a page of a class and returns whether it could. Returns
  // how many tokens are in the cache afterwards: fewer where there was no room.
  using MakeRoom = std::function<bool(size_t page_class)>;
  int64_t BringBack(const TextKind& kind, std::span<const int32_t> ids, int64_t n_tokens,
                    const MakeRoom& make_room);
  // The pages of the cache, of a class, that a text can begin with, whatever else it needs.
  std::vector<int32_t> PagesOf(const TextKind& kind, std::span<const int32_t> ids,
                               size_t page_class) const;
  // A new sequence that begins with that; place: where it stands.
  // REQUIRES: n_tokens is what BringBack returned for it, or Find where nothing is in the host's
  // memory, and nothing has changed since.
  int32_t TakeUp(const TextKind& kind, std::span<const int32_t> ids, int64_t n_tokens,
                 Place* place);
  // Keeps the whole pages of a sequence that holds the first length(sequence) of ids, from `place`
  // on (a new one: from the beginning), and moves that.
  void Keep(const TextKind& kind, std::span<const int32_t> ids, int32_t sequence, Place* place);
  // Forgets pages of a text that nobody uses, from its last one on up to where another text parts.
  void Forget(const TextKind& kind, std::span<const int32_t> ids);

  // Pages of a class that only the cache holds, and when the one was last used that goes first
  // (kNever: there is none).
  int64_t n_kept(size_t page_class) const;
  static constexpr uint64_t kNever = UINT64_MAX;
  uint64_t oldest_use(size_t page_class) const;
  // Gives back that page; copied: a copy of it goes to the host's memory, if there is room or an
  // older one to give way. Returns whether there was one.
  bool DropOldest(size_t page_class, bool copied = false);
  // Lets go of a page that someone else uses, too, so that it is his alone. Returns whether the
  // cache had it.
  bool LetGoOf(size_t page_class, int32_t page);

  // The clock that uses are stamped with; it goes on with every use.
  uint64_t Now() { return ++now_; }

 private:
  using NodeList = std::list<Node*>;
  using HostList = std::list<std::pair<Node*, size_t>>;  // of a node, the page of a class
  struct KeyHash {
    size_t operator()(const std::vector<int32_t>& tokens) const;
  };
  struct Node : std::enable_shared_from_this<Node> {
    Node* parent = nullptr;          // null: a root
    const TextKind* kind = nullptr;  // of a root
    std::vector<int32_t> tokens;     // of the page
    std::unordered_map<std::vector<int32_t>, std::shared_ptr<Node>, KeyHash> children;
    std::vector<int32_t> pages;                            // by class; -1: not in the cache
    std::vector<NodeList::iterator> in_use;                // by class: its place in oldest_first_
    std::vector<std::unique_ptr<HostPages::Page>> copies;  // by class; null: none
    std::vector<HostList::iterator> copy_in_use;           // by class: its place in copies_
    uint64_t last_use = 0;
    bool gone = false;  // taken out of the tree
    bool held = false;  // is being brought back: nothing of it may go

    bool Has(size_t page_class) const {
      return pages[page_class] >= 0 || copies[page_class] != nullptr;
    }
  };

  std::shared_ptr<Node> RootOf(const TextKind& kind);
  std::vector<Node*> PathOf(const TextKind& kind, std::span<const int32_t> ids,
                            int64_t max_pages) const;
  int64_t FirstPage(size_t page_class, int64_t n_pages) const;
  // Whether all that a text of n_pages pages of the path needs is in the cache; and whether it is
  // there or in the host's memory.
  bool IsInCache(std::span<Node* const> path, int64_t n_pages) const;
  bool CanTakeUp(std::span<Node* const> path, int64_t n_pages) const;
  void Touch(std::span<Node* const> path);
  void KeepPage(Node* node, size_t page_class, int32_t page);
  void DropPage(Node* node, size_t page_class);
  void ListPage(Node* node, size_t page_class, int32_t page);
  bool MoveBack(Node* node, size_t page_class, const MakeRoom& make_room);
  void CopyToHost(Node* node, size_t page_class);
  void DropCopy(Node* node, size_t page_class);
  bool DropOldestCopy();
  void Prune(Node* node);
  Node* Oldest(size_t page_class) const;

  KvSequences& kv_;
  HostPages* host_;
  HostList copies_;  // that was not used for longest first
  std::map<TextKind, std::shared_ptr<Node>> roots_;
  std::vector<NodeList> oldest_first_;  // by class: the nodes that keep a page of it
  uint64_t now_ = 0;
};

}  // namespace thermocline
