// This endpoint's regions and the keys that open them to writers.
#pragma once

#include <cerrno>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "common/memory.h"
#include "transfer/fabric.h"

namespace baton::transfer::shm {

class Targets {
 public:
  explicit Targets(uint64_t first_key) : next_key_(first_key) {}

  uint32_t Register(MemorySpan memory) {
    regions_.push_back(memory);
    has_devices_ = has_devices_ || memory.device != DeviceKind::kHost;
    return static_cast<uint32_t>(regions_.size() - 1);
  }
  void Unregister(uint32_t region) {
    regions_[region] = {};
    std::erase_if(keys_, [&](const auto& key) { return key.second == region; });
  }
  MemoryKey Expose(uint32_t region) {
    const MemoryKey key{.base = 0, .key = ++next_key_};
    keys_[key.key] = region;
    return key;
  }
  std::vector<uint64_t> KeysOf(uint32_t region) const {
    std::vector<uint64_t> keys;
    for (const auto& [key, opens] : keys_)
      if (opens == region) keys.push_back(key);
    return keys;
  }
  void Revoke(uint64_t key) { keys_.erase(key); }

  // 0 and the place, or an errno. The range comes from a peer: nothing about it is trusted.
  int Locate(uint64_t key, uint64_t offset, uint64_t bytes, std::byte*& place, MemorySpan* memory = nullptr) const {
    const auto found = keys_.find(key);
    if (found == keys_.end()) return EKEYREVOKED;
    const MemorySpan& region = regions_[found->second];
    if (bytes > region.size_bytes || offset > region.size_bytes - bytes) return ERANGE;
    place = region.data + offset;
    if (memory) *memory = region;
    return 0;
  }

  const std::vector<MemorySpan>& regions() const { return regions_; }
  bool has_devices() const { return has_devices_; }  // and never forgets

 private:
  std::vector<MemorySpan> regions_;
  std::unordered_map<uint64_t, uint32_t> keys_;
  uint64_t next_key_;
  bool has_devices_ = false;
};

}  // namespace baton::transfer::shm
