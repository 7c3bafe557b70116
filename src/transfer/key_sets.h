// Key sets: what each Describe() hands out, so that one peer's access can be taken away alone.
//
// A description carries fresh keys for all regions. The peer that uses it names itself in the
// mailbox cell of its key set (hello) and thereby claims the set; losing that peer revokes it.
// When all are handed out, the oldest that no connected peer uses is taken back.
// Where the provider makes the keys (efa) all sets share one key and revoking takes nothing away;
// there removing the peer from the address vector is the fence (never tried on hardware).
// Thread: the worker.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "transfer/blob.h"
#include "transfer/credits.h"
#include "transfer/fabric.h"

namespace baton::transfer {

class KeySets {
 public:
  struct Region {
    uint32_t fabric_region = 0;
    uint64_t size_bytes = 0;
  };

  // Closes the accounts of sets that it takes back. `checksums`: hand out a manifest, too.
  KeySets(Fabric& fabric, CreditBook& credits, bool checksums, uint32_t sets)
      : fabric_(fabric), credits_(credits), checksums_(checksums), sets_(sets) {}
  KeySets(const KeySets&) = delete;
  KeySets& operator=(const KeySets&) = delete;

  // Registers the mailbox and the place of marks. Call once, before anything else.
  Status Open();

  // Fills key set, mailbox, marks and regions of `blob`. `in_use(epoch)`: a connected peer has that epoch.
  Status HandOut(std::span<const Region> regions, const std::function<bool(uint64_t)>& in_use,
                 PeerBlob& blob);

  // A hello arrived for `index`: what it says, or epoch 0 when it makes no sense.
  Mail Claim(uint32_t index, uint8_t generation);
  // The set that the peer of `epoch` named last, or kMailboxCells: the one that it writes with. Not
  // the one handed out last: introductions that cross may leave it with an earlier one.
  uint32_t ClaimedBy(uint64_t epoch) const;
  // The credit mail in the cell of `index`; epoch 0 when it makes no sense.
  Mail Credit(uint32_t index, uint8_t generation) const;
  // The epoch that claimed this live set, else 0.
  uint64_t Owner(uint32_t index, uint8_t generation) const;
  // Likewise the mails about repetition.
  RepeatMail Repeat(uint32_t index, uint8_t generation) const;
  ConsentMail Consent(uint32_t index, uint8_t generation) const;
  // Renews all keys but the mailbox's: nothing lands that was posted with the set before. How often
  // that was done, and what was answered the last time (mail.h).
  Status Fence(uint32_t index);
  uint64_t fences(uint32_t index) const { return sets_[index].fences; }
  uint64_t verdicts(uint32_t index) const { return sets_[index].verdicts; }
  void NoteVerdicts(uint32_t index, uint64_t verdicts) { sets_[index].verdicts = verdicts; }
  // A block of the manifest; null when set and generation are not those of a live set.
  const std::byte* ManifestBlock(uint32_t index, uint8_t generation, uint32_t block) const;
  uint8_t generation(uint32_t index) const { return sets_[index].generation; }
  // The block whose sequence ends in `low` (checksums.h) arrived: its sequence, or nothing when it is
  // not new. Blocks overtake each other, so a place is free again only when all before it were read, too.
  std::optional<uint64_t> CountBlock(uint32_t index, uint32_t low);
  // Blocks read without a gap.
  uint64_t blocks(uint32_t index) const { return sets_[index].blocks; }

  // Takes away what the peer of `epoch` claimed.
  void RevokeOwner(uint64_t epoch);
  // Takes away what was handed out and not claimed yet, by whomever.
  void RevokeUnclaimed();

 private:
  enum class State : uint8_t { kFree, kHandedOut, kClaimed };
  struct Set {
    State state = State::kFree;
    uint8_t generation = 0;
    uint64_t owner = 0;
    uint64_t age = 0;    // order of being handed out
    uint64_t named = 0;  // order of the last hello
    uint64_t blocks = 0;
    uint32_t blocks_ahead = 0;  // bit per place: read before one that comes earlier
    uint64_t fences = 0, verdicts = 0;
    std::vector<MemoryKey> keys;  // the mailbox's first
  };
  // An index to hand out, taking one back if need be; kMailboxCells when all are in use.
  uint32_t Pick(const std::function<bool(uint64_t)>& in_use);
  void Revoke(Set& set);
  std::byte* Cell(uint32_t index) { return mailbox_.data() + size_t{index} * kMailboxCellBytes; }
  template <typename AnyMail>
  AnyMail Read(uint32_t index, uint8_t generation, uint32_t offset) const;

  Fabric& fabric_;
  CreditBook& credits_;
  const bool checksums_;
  std::vector<std::byte> mailbox_, marks_, manifest_;
  uint32_t mailbox_region_ = 0, marks_region_ = 0, manifest_region_ = 0;
  std::vector<Set> sets_;
  uint64_t handed_out_ = 0, hellos_ = 0;
};

}  // namespace baton::transfer
