// Which prompts one worker has seen lately, as far as its prefix cache can still hold them.
//
// A radix tree over the blocks of PrefixDigest, kept as a flat hash table: a node is found by the
// key of its whole prefix, so neither the text nor child pointers are stored. Nodes form one list by
// last use; a prompt's nodes are touched from the end to the beginning, so that a node is never used
// less recently than those below it. Hence the oldest node is always a leaf, eviction keeps every
// prefix of what it keeps, and a match can be found by bisection.
//
// Bound: the bytes of text that the nodes stand for (each at least kLeastBytes) never pass
// `max_bytes` after an Insert; a node takes about 40 bytes of memory. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "router/policies/prefix_digest.h"

namespace baton::router {

class PrefixTree {
 public:
  static constexpr uint64_t kLeastBytes = 32;

  explicit PrefixTree(uint64_t max_bytes) : max_bytes_(max_bytes) {}

  // How many of the first keys are in the tree; 0 when fewer than `at_least`, which is told at the
  // cost of one look. Does not count as a use.
  size_t Match(std::span<const uint64_t> keys, size_t at_least = 1) const;
  // Adds or touches every prefix of the prompt, then evicts the least recently used.
  void Insert(const PrefixDigest& digest);
  void Clear();

  uint64_t bytes() const { return bytes_; }
  size_t size() const { return size_; }
  // Memory held, bytes.
  size_t MemoryBytes() const {
    return nodes_.capacity() * sizeof(Node) + slots_.capacity() * sizeof(uint32_t);
  }

 private:
  static constexpr uint32_t kNone = UINT32_MAX;
  struct Node {
    uint64_t key = 0;
    uint32_t older = kNone;
    uint32_t newer = kNone;
    uint32_t bytes = 0;
  };

  size_t Home(uint64_t key) const { return static_cast<size_t>(key) & (slots_.size() - 1); }
  uint32_t Find(uint64_t key) const;
  void Add(uint64_t key, uint64_t bytes);
  void Erase(uint32_t node);
  void Grow();
  void Unlink(uint32_t node);
  void LinkNewest(uint32_t node);

  const uint64_t max_bytes_;
  uint64_t bytes_ = 0;
  size_t size_ = 0;
  std::vector<Node> nodes_;
  uint32_t free_ = kNone;  // list of unused nodes by `newer`
  uint32_t oldest_ = kNone;
  uint32_t newest_ = kNone;
  std::vector<uint32_t> slots_;  // open addressing, linear probing; a power of two, at most 2/3 full
};

}  // namespace baton::router
