// The prefix cache: a tree of full pages keyed by their token ids. A node is a page, so nodes live
// in arrays indexed by PageId and nothing is allocated after construction.
//
// A child is found by hashing (parent page, the page's tokens) and comparing the tokens, as in
// vLLM's hash chain over blocks; locks and least-recently-used leaves are as in SGLang's radix tree.
//
// Locks: whoever uses a page locks its whole path from the root, so a parent's count is at least
// that of each child. Pages with count 0 stand in one list, oldest first. Unlock walks from the
// deepest page up, so in that list every page stands behind its descendants and the front is always
// a leaf: eviction pops it. Engine thread only.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "common/ids.h"
#include "engine/page_pool.h"

namespace baton::engine {

class RadixCache {
 public:
  static constexpr PageId kRoot = -1;

  // `pool` must outlive the cache.
  RadixCache(PagePool& pool, int page_tokens);

  // The page that holds `tokens` (page_tokens ids) behind `parent`, or -1. Does not lock.
  PageId Find(PageId parent, std::span<const int32_t> tokens) const;
  void Lock(PageId page);
  // Follows `tokens` from the root for at most `max_pages` pages, locks what it finds and appends
  // it to `out`. Returns how many.
  int Match(std::span<const int32_t> tokens, int max_pages, std::vector<PageId>& out);

  // Puts `page` (owned by `from`, holding the KV of `tokens` behind the locked page `parent`) into
  // the tree, locked for the caller, and returns it. When the tree has such a page already, locks
  // and returns that one; `page` then stays with its owner.
  PageId Insert(PageId parent, std::span<const int32_t> tokens, PageId page, PageOwner from);

  // Undoes one lock of each page of a path that begins at the root.
  void Unlock(std::span<const PageId> path);

  // Frees up to `count` unlocked pages, least recently used first. Returns how many.
  int Evict(int count);

  int pages() const { return pages_; }          // in the tree
  int evictable() const { return evictable_; }  // of them unlocked
  int locks(PageId page) const { return nodes_[static_cast<size_t>(page)].locks; }

 private:
  struct Node {
    PageId parent = kRoot;
    PageId chain = -1;         // next page of the same bucket
    PageId older = -1;         // neighbours in the list of unlocked pages
    PageId newer = -1;
    int32_t locks = 0;
    int32_t children = 0;
    bool cached = false;
  };

  size_t BucketOf(PageId parent, std::span<const int32_t> tokens) const;
  std::span<const int32_t> TokensOf(PageId page) const;
  Node& At(PageId page) { return nodes_[static_cast<size_t>(page)]; }
  const Node& At(PageId page) const { return nodes_[static_cast<size_t>(page)]; }
  void Append(PageId page);   // to the list of unlocked pages, as the newest
  void Detach(PageId page);   // from it

  PagePool& pool_;
  const int page_tokens_;
  std::vector<Node> nodes_;
  std::vector<int32_t> tokens_;    // [pages, page_tokens]
  std::vector<PageId> buckets_;    // heads; a power of two of them
  PageId oldest_ = -1;
  PageId newest_ = -1;
  int pages_ = 0;
  int evictable_ = 0;
};

}  // namespace baton::engine
