// Which prompts one worker has seen lately, as far as its prefix cache can still hold them.
//
// A radix tree over the blocks of PrefixDigest, kept as a flat hash table: a node is found by the
// key of its whole prefix, so neither the text nor child pointers are stored. Nodes form one list by
// last use; a prompt's nodes are touched from the end to the beginning, so that a node is never used
// less recently than those below it. Hence the oldest node is always a leaf, eviction keeps every
// prefix of what it keeps, and a match can be found by bisection.
//
// Bound: the bytes of text that the nodes stand for (each at least kLeastBytes) never pass
// `max_bytes` after an Insert; a node takes about 40 bytes of memory, and the table has at most 2^32
// slots. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <memory>
#include <vector>

#include "router/policies/prefix_digest.h"

namespace baton::router {

class PrefixTree {
 public:
  static constexpr uint64_t kLeastBytes = 64;

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
    return chunks_.size() * kChunk * sizeof(Node) + slots_.capacity() * sizeof(Slot);
  }

 private:
  static constexpr uint32_t kNone = UINT32_MAX;
  struct Node {
    uint64_t key = 0;
    uint32_t older = kNone;
    uint32_t newer = kNone;
    uint32_t bytes = 0;
  };

  // Half of the key beside the node's number: most slots are judged without a look at the node.
  struct Slot {
    uint32_t tag = 0;
    uint32_t node = kNone;
  };
  static constexpr size_t kChunk = 4096;

  static uint32_t Tag(uint64_t key) { return static_cast<uint32_t>(key >> 32); }
  size_t Home(uint32_t tag) const { return tag & (slots_.size() - 1); }
  Node& At(uint32_t node) { return chunks_[node / kChunk][node % kChunk]; }
  const Node& At(uint32_t node) const { return chunks_[node / kChunk][node % kChunk]; }
  uint32_t Find(uint64_t key) const;
  void Place(uint32_t tag, uint32_t node);
  void EvictDownTo(uint64_t bytes);
  void Add(uint64_t key, uint64_t bytes);
  void Erase(uint32_t node);
  void Grow();
  void Unlink(uint32_t node);
  void LinkNewest(uint32_t node);

  const uint64_t max_bytes_;
  uint64_t bytes_ = 0;
  size_t size_ = 0;
  std::vector<std::unique_ptr<Node[]>> chunks_;
  uint32_t made_ = 0;      // nodes that were ever used
  uint32_t free_ = kNone;  // list of unused nodes by `newer`
  uint32_t oldest_ = kNone;
  uint32_t newest_ = kNone;
  std::vector<Slot> slots_;  // open addressing, linear probing; a power of two, at most 2/3 full
};

}  // namespace baton::router
