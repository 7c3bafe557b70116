#include "router/policies/prefix_tree.h"

#include <algorithm>
#include <utility>

namespace baton::router {

uint32_t PrefixTree::Find(uint64_t key) const {
  if (slots_.empty()) return kNone;
  for (size_t at = Home(key);; at = (at + 1) & (slots_.size() - 1)) {
    const uint32_t node = slots_[at];
    if (node == kNone || nodes_[node].key == key) return node;
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
  for (size_t i = keys.size(); i-- > 0;) {
    const uint32_t node = Find(keys[i]);
    if (node == kNone) {
      Add(keys[i], digest.BytesUpTo(i + 1) - digest.BytesUpTo(i));
    } else if (node != newest_) {
      Unlink(node);
      LinkNewest(node);
    }
  }
  while (bytes_ > max_bytes_ && oldest_ != kNone) Erase(oldest_);
}

void PrefixTree::Add(uint64_t key, uint64_t bytes) {
  if ((size_ + 1) * 3 > slots_.size() * 2) Grow();
  uint32_t node = free_;
  if (node != kNone) {
    free_ = nodes_[node].newer;
  } else {
    node = static_cast<uint32_t>(nodes_.size());
    nodes_.emplace_back();
  }
  nodes_[node].key = key;
  nodes_[node].bytes = static_cast<uint32_t>(std::clamp<uint64_t>(bytes, kLeastBytes, UINT32_MAX));
  bytes_ += nodes_[node].bytes;
  ++size_;
  size_t at = Home(key);
  while (slots_[at] != kNone) at = (at + 1) & (slots_.size() - 1);
  slots_[at] = node;
  LinkNewest(node);
}

void PrefixTree::Erase(uint32_t node) {
  const size_t mask = slots_.size() - 1;
  size_t hole = Home(nodes_[node].key);
  while (slots_[hole] != node) hole = (hole + 1) & mask;
  // Backward shift: what a probe would have reached over the hole moves into it.
  for (size_t at = (hole + 1) & mask; slots_[at] != kNone; at = (at + 1) & mask) {
    const size_t home = Home(nodes_[slots_[at]].key);
    if (((at - home) & mask) >= ((at - hole) & mask)) {
      slots_[hole] = slots_[at];
      hole = at;
    }
  }
  slots_[hole] = kNone;
  Unlink(node);
  bytes_ -= nodes_[node].bytes;
  --size_;
  nodes_[node].newer = std::exchange(free_, node);
}

void PrefixTree::Grow() {
  std::vector<uint32_t> bigger(std::max<size_t>(64, slots_.size() * 2), kNone);
  slots_.swap(bigger);
  for (const uint32_t node : bigger) {
    if (node == kNone) continue;
    size_t at = Home(nodes_[node].key);
    while (slots_[at] != kNone) at = (at + 1) & (slots_.size() - 1);
    slots_[at] = node;
  }
}

void PrefixTree::Unlink(uint32_t node) {
  const Node& n = nodes_[node];
  (n.older == kNone ? oldest_ : nodes_[n.older].newer) = n.newer;
  (n.newer == kNone ? newest_ : nodes_[n.newer].older) = n.older;
}

void PrefixTree::LinkNewest(uint32_t node) {
  nodes_[node].older = newest_;
  nodes_[node].newer = kNone;
  (newest_ == kNone ? oldest_ : nodes_[newest_].newer) = node;
  newest_ = node;
}

void PrefixTree::Clear() {
  std::vector<Node>().swap(nodes_);  // gives the memory back as well
  std::vector<uint32_t>().swap(slots_);
  bytes_ = 0;
  size_ = 0;
  free_ = oldest_ = newest_ = kNone;
}

}  // namespace baton::router
