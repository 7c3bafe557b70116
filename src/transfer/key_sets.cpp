#include "transfer/key_sets.h"

#include <cstring>

#include "transfer/checksums.h"

namespace baton::transfer {

Status KeySets::Open() {
  const auto reserve = [this](std::vector<std::byte>& bytes, size_t size, uint32_t& region) {
    bytes.assign(size, std::byte{0});
    const Result<uint32_t> registered = fabric_.Register({bytes.data(), bytes.size()});
    if (registered.ok()) region = *registered;
    return registered.status();
  };
  if (Status s = reserve(mailbox_, sets_.size() * kMailboxCellBytes, mailbox_region_); !s.ok()) return s;
  if (Status s = reserve(marks_, kMarkBytes, marks_region_); !s.ok()) return s;
  if (!checksums_) return Status::Ok();
  return reserve(manifest_, sets_.size() * kManifestBlocks * kManifestBlockBytes, manifest_region_);
}

uint32_t KeySets::Pick(const std::function<bool(uint64_t)>& in_use) {
  uint32_t oldest = kMailboxCells;
  for (uint32_t i = 0; i < sets_.size(); ++i) {
    const Set& set = sets_[i];
    if (set.state == State::kFree && credits_.HasRoom()) return i;
    if (set.state == State::kFree) continue;
    // What a connected peer writes with stays; sets of introductions that it has left behind do not.
    if (set.state == State::kClaimed && in_use(set.owner) && ClaimedBy(set.owner) == i) continue;
    if (oldest == kMailboxCells || set.age < sets_[oldest].age) oldest = i;
  }
  if (oldest != kMailboxCells) Revoke(sets_[oldest]);
  return oldest;
}

Status KeySets::HandOut(std::span<const Region> regions,
                        const std::function<bool(uint64_t)>& in_use, PeerBlob& blob) {
  const uint32_t index = Pick(in_use);
  if (index == kMailboxCells || !credits_.HasRoom())
    return Error(Code::kResourceExhausted,
                 "as many peers are connected as there can be: {}, or {} by the length of the "
                 "fabric's completion queue: use more engines, or try again",
                 sets_.size(), credits_.unlimited() ? sets_.size() : credits_.most_accounts());
  Set& set = sets_[index];
  std::memset(Cell(index), 0, kMailboxCellBytes);
  const auto expose = [&](uint32_t region, MemoryKey& key) {
    const Result<MemoryKey> fresh = fabric_.Expose(region);
    if (!fresh) {
      Revoke(set);
      return fresh.status();
    }
    set.keys.push_back(key = *fresh);
    return Status::Ok();
  };
  if (Status s = expose(mailbox_region_, blob.mailbox); !s.ok()) return s;
  if (Status s = expose(marks_region_, blob.marks); !s.ok()) return s;
  blob.wants_checksums = checksums_;
  if (checksums_)
    if (Status s = expose(manifest_region_, blob.manifest); !s.ok()) return s;
  for (const Region& region : regions) {
    blob.regions.push_back({{}, region.size_bytes});
    if (Status s = expose(region.fabric_region, blob.regions.back().key); !s.ok()) return s;
  }
  set.state = State::kHandedOut;
  set.blocks = 0;
  set.blocks_ahead = 0;
  set.fences = set.verdicts = 0;
  set.age = ++handed_out_;
  blob.credits = credits_.Open(index);
  blob.key_set = index;
  blob.key_set_generation = set.generation;
  return Status::Ok();
}

template <typename AnyMail>
AnyMail KeySets::Read(uint32_t index, uint8_t generation, uint32_t offset) const {
  if (index >= sets_.size()) return {};
  const Set& set = sets_[index];
  if (set.state == State::kFree || set.generation != generation) return {};
  AnyMail mail;
  std::memcpy(&mail, mailbox_.data() + size_t{index} * kMailboxCellBytes + offset, sizeof mail);
  return IsGenuine(mail) ? mail : AnyMail{};
}

Mail KeySets::Claim(uint32_t index, uint8_t generation) {
  const Mail mail = Read<Mail>(index, generation, kHelloOffset);
  if (mail.epoch == 0 || mail.tag != MailTag(index, generation)) return {};
  Set& set = sets_[index];
  // Two peers on one description cannot be told apart by their keys: the first one owns it.
  if (set.state == State::kClaimed && set.owner != mail.epoch) return {};
  set.state = State::kClaimed;
  set.owner = mail.epoch;
  set.named = ++hellos_;
  return mail;
}

uint32_t KeySets::ClaimedBy(uint64_t epoch) const {
  uint32_t found = kMailboxCells;
  for (uint32_t i = 0; i < sets_.size(); ++i) {
    const Set& set = sets_[i];
    if (set.state != State::kClaimed || set.owner != epoch) continue;
    if (found == kMailboxCells || set.named > sets_[found].named) found = i;
  }
  return found;
}

Mail KeySets::Credit(uint32_t index, uint8_t generation) const {
  return Read<Mail>(index, generation, kCreditOffset);
}

RepeatMail KeySets::Repeat(uint32_t index, uint8_t generation) const {
  const RepeatMail mail = Read<RepeatMail>(index, generation, kRepeatOffset);
  const bool sound = mail.epoch && mail.tag == MailTag(index, generation) &&
                     mail.count <= RepeatMail::kSends && sets_[index].owner == mail.epoch;
  return sound ? mail : RepeatMail{};
}

ConsentMail KeySets::Consent(uint32_t index, uint8_t generation) const {
  return Read<ConsentMail>(index, generation, kConsentOffset);
}

Status KeySets::Fence(uint32_t index) {
  Set& set = sets_[index];
  for (size_t i = 1; i < set.keys.size(); ++i) {
    Result<MemoryKey> next = fabric_.Renew(set.keys[i]);
    if (!next) return next.status();
    set.keys[i] = *next;
  }
  ++set.fences;
  return Status::Ok();
}

uint64_t KeySets::Owner(uint32_t index, uint8_t generation) const {
  const bool live = index < sets_.size() && sets_[index].state == State::kClaimed &&
                    sets_[index].generation == generation;
  return live ? sets_[index].owner : 0;
}

const std::byte* KeySets::ManifestBlock(uint32_t index, uint8_t generation, uint32_t block) const {
  if (!checksums_ || index >= sets_.size() || block >= kManifestBlocks) return nullptr;
  const Set& set = sets_[index];
  if (set.state == State::kFree || set.generation != generation) return nullptr;
  return manifest_.data() + (size_t{index} * kManifestBlocks + block) * kManifestBlockBytes;
}

std::optional<uint64_t> KeySets::CountBlock(uint32_t index, uint32_t low) {
  Set& set = sets_[index];
  const uint64_t ahead = (low - set.blocks) & ((1u << BlockName::kLowBits) - 1);
  if (ahead >= kManifestBlocks) return std::nullopt;  // of those read, or of no honest writer
  const uint64_t sequence = set.blocks + ahead;
  const uint32_t bit = 1u << sequence % kManifestBlocks;
  if (set.blocks_ahead & bit) return std::nullopt;
  set.blocks_ahead |= bit;
  while (set.blocks_ahead & 1u << set.blocks % kManifestBlocks)
    set.blocks_ahead &= ~(1u << set.blocks++ % kManifestBlocks);
  return sequence;
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
  credits_.Close(static_cast<uint32_t>(&set - sets_.data()));
  set.state = State::kFree;
  set.owner = 0;
  ++set.generation;
}

}  // namespace baton::transfer
