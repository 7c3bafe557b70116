#include "transfer/key_sets.h"

#include <cstring>

namespace baton::transfer {

Status KeySets::Open() {
  mailbox_.assign(kMailboxBytes, std::byte{0});
  Result<uint32_t> region = fabric_.Register({mailbox_.data(), mailbox_.size()});
  if (!region) return region.status();
  mailbox_region_ = *region;
  return Status::Ok();
}

uint32_t KeySets::Pick(const std::function<bool(uint64_t)>& in_use) {
  const uint32_t none = static_cast<uint32_t>(sets_.size());
  uint32_t oldest = none;
  for (uint32_t i = 0; i < none; ++i) {
    const Set& set = sets_[i];
    if (set.state == State::kFree) return i;
    if (set.state == State::kClaimed && in_use(set.owner)) continue;
    if (oldest == none || set.age < sets_[oldest].age) oldest = i;
  }
  if (oldest != none) Revoke(sets_[oldest]);
  return oldest;
}

Status KeySets::HandOut(std::span<const Region> regions,
                        const std::function<bool(uint64_t)>& in_use, PeerBlob& blob) {
  const uint32_t index = Pick(in_use);
  if (index == sets_.size())
    return Error(Code::kResourceExhausted, "{} peers are connected, which is the most",
                 sets_.size());
  Set& set = sets_[index];
  std::memset(Cell(index), 0, kMailboxCellBytes);
  Result<MemoryKey> mailbox = fabric_.Expose(mailbox_region_);
  if (!mailbox) return mailbox.status();
  set.keys.push_back(*mailbox);
  for (const Region& region : regions) {
    Result<MemoryKey> key = fabric_.Expose(region.fabric_region);
    if (!key) {
      Revoke(set);
      return key.status();
    }
    set.keys.push_back(*key);
    blob.regions.push_back({*key, region.size_bytes});
  }
  set.state = State::kHandedOut;
  set.age = ++handed_out_;
  blob.key_set = index;
  blob.key_set_generation = set.generation;
  blob.mailbox = *mailbox;
  return Status::Ok();
}

uint64_t KeySets::Claim(uint32_t index, uint8_t generation) {
  if (index >= sets_.size()) return 0;
  Set& set = sets_[index];
  if (set.state == State::kFree || set.generation != generation) return 0;
  uint64_t epoch[2];
  std::memcpy(epoch, Cell(index), sizeof epoch);
  if (epoch[0] == 0 || epoch[0] != ~epoch[1]) return 0;
  // Two peers on one description cannot be told apart by their keys: the first one owns it.
  if (set.state == State::kClaimed && set.owner != epoch[0]) return 0;
  set.state = State::kClaimed;
  set.owner = epoch[0];
  return epoch[0];
}

void KeySets::RevokeOwner(uint64_t epoch) {
  for (Set& set : sets_)
    if (set.state == State::kClaimed && set.owner == epoch) Revoke(set);
}

void KeySets::RevokeUnclaimed() {
  for (Set& set : sets_)
    if (set.state == State::kHandedOut) Revoke(set);
}

void KeySets::Revoke(Set& set) {
  for (const MemoryKey& key : set.keys) fabric_.Revoke(key);
  set.keys.clear();
  set.state = State::kFree;
  set.owner = 0;
  ++set.generation;
}

}  // namespace baton::transfer
