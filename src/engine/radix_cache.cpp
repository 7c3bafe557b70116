#include "engine/radix_cache.h"

#include <algorithm>
#include <bit>

#include "common/status.h"

namespace baton::engine {

RadixCache::RadixCache(PagePool& pool, int page_tokens)
    : pool_(pool),
      page_tokens_(page_tokens),
      nodes_(static_cast<size_t>(pool.total())),
      tokens_(static_cast<size_t>(pool.total()) * page_tokens),
      buckets_(std::bit_ceil(static_cast<size_t>(pool.total()) + 1), -1) {}

size_t RadixCache::BucketOf(PageId parent, std::span<const int32_t> tokens) const {
  // Multiply and fold, 64 bits at a time; only speed depends on its quality.
  uint64_t hash = 0x9E3779B97F4A7C15ull ^ static_cast<uint64_t>(static_cast<uint32_t>(parent));
  for (const int32_t token : tokens) {
    hash = (hash ^ static_cast<uint32_t>(token)) * 0xD6E8FEB86659FD93ull;
    hash ^= hash >> 32;
  }
  return hash & (buckets_.size() - 1);
}

std::span<const int32_t> RadixCache::TokensOf(PageId page) const {
  return {tokens_.data() + static_cast<size_t>(page) * page_tokens_,
          static_cast<size_t>(page_tokens_)};
}

PageId RadixCache::Find(PageId parent, std::span<const int32_t> tokens) const {
  for (PageId page = buckets_[BucketOf(parent, tokens)]; page >= 0; page = At(page).chain) {
    if (At(page).parent == parent && std::ranges::equal(TokensOf(page), tokens)) return page;
  }
  return -1;
}

void RadixCache::Lock(PageId page) {
  if (At(page).locks++ == 0) Detach(page);
}

int RadixCache::Match(std::span<const int32_t> tokens, int max_pages, std::vector<PageId>& out) {
  PageId parent = kRoot;
  int found = 0;
  const int limit = std::min(max_pages, static_cast<int>(tokens.size()) / page_tokens_);
  for (; found < limit; ++found) {
    const size_t begin = static_cast<size_t>(found) * page_tokens_;
    const PageId page = Find(parent, tokens.subspan(begin, static_cast<size_t>(page_tokens_)));
    if (page < 0) break;
    Lock(page);
    out.push_back(page);
    parent = page;
  }
  return found;
}

PageId RadixCache::Insert(PageId parent, std::span<const int32_t> tokens, PageId page,
                          PageOwner from) {
  BATON_CHECK(parent == kRoot || At(parent).locks > 0, "parent {} of page {} is not locked", parent,
              page);
  const PageId existing = Find(parent, tokens);
  if (existing >= 0) {
    Lock(existing);
    return existing;
  }
  pool_.Move(page, from, PageOwner::kCache);
  std::ranges::copy(tokens, tokens_.begin() + static_cast<ptrdiff_t>(page) * page_tokens_);
  PageId& head = buckets_[BucketOf(parent, tokens)];
  At(page) = Node{.parent = parent, .chain = head, .locks = 1, .cached = true};
  head = page;
  if (parent != kRoot) ++At(parent).children;
  ++pages_;
  return page;
}

void RadixCache::Unlock(std::span<const PageId> path) {
  for (size_t i = path.size(); i-- > 0;) {
    Node& node = At(path[i]);
    BATON_CHECK(node.cached && node.locks > 0, "page {} is not locked", path[i]);
    if (--node.locks == 0) Append(path[i]);
  }
}

int RadixCache::Evict(int count) {
  int evicted = 0;
  for (; evicted < count && oldest_ >= 0; ++evicted) {
    const PageId page = oldest_;
    Node& node = At(page);
    BATON_CHECK(node.children == 0, "page {} is evicted before its {} children", page,
                node.children);
    Detach(page);
    PageId* link = &buckets_[BucketOf(node.parent, TokensOf(page))];
    while (*link != page) link = &At(*link).chain;
    *link = node.chain;
    if (node.parent != kRoot) --At(node.parent).children;
    node = Node{};
    --pages_;
    pool_.Free(page, PageOwner::kCache);
  }
  return evicted;
}

void RadixCache::Append(PageId page) {
  Node& node = At(page);
  node.older = newest_;
  node.newer = -1;
  (newest_ >= 0 ? At(newest_).newer : oldest_) = page;
  newest_ = page;
  ++evictable_;
}

void RadixCache::Detach(PageId page) {
  Node& node = At(page);
  (node.older >= 0 ? At(node.older).newer : oldest_) = node.newer;
  (node.newer >= 0 ? At(node.newer).older : newest_) = node.older;
  node.older = node.newer = -1;
  --evictable_;
}

}  // namespace baton::engine
