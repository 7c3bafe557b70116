#include "router/policies/prefix_tree.h"

#include <algorithm>
#include <utility>

namespace baton::router {

uint32_t PrefixTree::Find(uint64_t key) const {
  if (slots_.empty()) return kNone;
  const uint32_t tag = Tag(key);
  for (size_t at = Home(tag);; at = (at + 1) & (slots_.size() - 1)) {
    const Slot& slot = slots_[at];
    if (slot.node == kNone || (slot.tag == tag && At(slot.node).key == key)) return slot.node;
  }
}

size_t PrefixTree::Match(std::span<const uint64_t> keys, size_t at_least) const {
  if (keys.empty() || Find(keys[at_least - 1]) == kNone) return 0;
  // Most prompts are either new or known to the end.
  if (Find(keys.back()) != kNone) return keys.size();
  size_t in = at_least, out = keys.size();  // the first `in` are here, the `out`-th is not
  while (out - in > 1) {
    const size_t middle = in + (out - in) / 2;
    if (Find(keys[middle - 1]) != kNone) in = middle;
    else out = middle;
  }
  return in;
}

void PrefixTree::Insert(const PrefixDigest& digest) {
  const auto keys = digest.keys();
  // The table is larger than the caches: ask for all slots before the first is needed.
  if (!slots_.empty()) {
    for (const uint64_t key : keys) __builtin_prefetch(&slots_[Home(Tag(key))]);
  }
  for (size_t i = keys.size(); i-- > 0;) {
    const uint32_t node = Find(keys[i]);
    if (node == kNone) {
      Add(keys[i], digest.BytesUpTo(i + 1) - digest.BytesUpTo(i));
    } else if (node != newest_) {
      Unlink(node);
      LinkNewest(node);
    }
  }
  EvictDownTo(max_bytes_);
}

void PrefixTree::EvictDownTo(uint64_t bytes) {
  while (bytes_ > bytes && oldest_ != kNone) {
    // In batches, again for the sake of the caches.
    constexpr size_t kBatch = 16;
    uint32_t ahead = oldest_;
    for (size_t i = 0; i < kBatch && ahead != kNone; ++i) {
      __builtin_prefetch(&slots_[Home(Tag(At(ahead).key))]);
      ahead = At(ahead).newer;
    }
    for (size_t i = 0; i < kBatch && bytes_ > bytes && oldest_ != kNone; ++i) Erase(oldest_);
  }
}

void PrefixTree::Place(uint32_t tag, uint32_t node) {
  size_t at = Home(tag);
  while (slots_[at].node != kNone) at = (at + 1) & (slots_.size() - 1);
  slots_[at] = {tag, node};
}

void PrefixTree::Add(uint64_t key, uint64_t bytes) {
  if ((size_ + 1) * 3 > slots_.size() * 2) Grow();
  uint32_t node = free_;
  if (node != kNone) {
    free_ = At(node).newer;
  } else {
    node = made_++;
    if (node / kChunk == chunks_.size()) chunks_.push_back(std::make_unique<Node[]>(kChunk));
  }
  Node& n = At(node);
  n.key = key;
  n.bytes = static_cast<uint32_t>(std::clamp<uint64_t>(bytes, kLeastBytes, UINT32_MAX));
  bytes_ += n.bytes;
  ++size_;
  Place(Tag(key), node);
  LinkNewest(node);
}

void PrefixTree::Erase(uint32_t node) {
  const size_t mask = slots_.size() - 1;
  size_t hole = Home(Tag(At(node).key));
  while (slots_[hole].node != node) hole = (hole + 1) & mask;
  // Backward shift: what a probe would have reached over the hole moves into it.
  for (size_t at = (hole + 1) & mask; slots_[at].node != kNone; at = (at + 1) & mask) {
    const size_t home = Home(slots_[at].tag);
    if (((at - home) & mask) >= ((at - hole) & mask)) {
      slots_[hole] = slots_[at];
      hole = at;
    }
  }
  slots_[hole] = {};
  Unlink(node);
  bytes_ -= At(node).bytes;
  --size_;
  At(node).newer = std::exchange(free_, node);
}

void PrefixTree::Grow() {
  std::vector<Slot> smaller(std::max<size_t>(64, slots_.size() * 2));
  slots_.swap(smaller);
  for (const Slot& slot : smaller) {
    if (slot.node != kNone) Place(slot.tag, slot.node);
  }
}

void PrefixTree::Unlink(uint32_t node) {
  const Node& n = At(node);
  (n.older == kNone ? oldest_ : At(n.older).newer) = n.newer;
  (n.newer == kNone ? newest_ : At(n.newer).older) = n.older;
}

void PrefixTree::LinkNewest(uint32_t node) {
  At(node).older = newest_;
  At(node).newer = kNone;
  (newest_ == kNone ? oldest_ : At(newest_).newer) = node;
  newest_ = node;
}

void PrefixTree::Clear() {
  // Gives the memory back as well.
  std::vector<std::unique_ptr<Node[]>>().swap(chunks_);
  std::vector<Slot>().swap(slots_);
  bytes_ = 0;
  size_ = 0;
  made_ = 0;
  free_ = oldest_ = newest_ = kNone;
}

}  // namespace baton::router
