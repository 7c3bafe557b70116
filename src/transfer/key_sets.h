// Key sets: what each Describe() hands out, so that one peer's access can be taken away alone.
//
// A description carries fresh keys for all regions. The peer that uses it names itself in the
// mailbox cell of its key set (hello) and thereby claims the set; losing that peer revokes it.
// When all are handed out, the oldest that no connected peer uses is taken back.
// Where the provider makes the keys (efa) all sets share one key and revoking takes nothing away;
// there removing the peer from the address vector is the fence (never tried on hardware).
// Thread: the worker.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "transfer/blob.h"
#include "transfer/fabric.h"

namespace baton::transfer {

class KeySets {
 public:
  struct Region {
    uint32_t fabric_region = 0;
    uint64_t size_bytes = 0;
  };

  explicit KeySets(Fabric& fabric)
      : fabric_(fabric), sets_(std::min(kMailboxCells, fabric.traits().max_invitations)) {}
  KeySets(const KeySets&) = delete;
  KeySets& operator=(const KeySets&) = delete;

  // Registers the mailbox. Call once, before anything else.
  Status Open();

  // Fills key set, mailbox and regions of `blob`. `in_use(epoch)`: a connected peer has that epoch.
  Status HandOut(std::span<const Region> regions, const std::function<bool(uint64_t)>& in_use,
                 PeerBlob& blob);

  // A hello arrived for `index`: the epoch of who wrote it, or 0 when it makes no sense.
  uint64_t Claim(uint32_t index, uint8_t generation);

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
    uint64_t age = 0;
    std::vector<MemoryKey> keys;
  };
  // An index to hand out, taking one back if need be; their number when all are in use.
  uint32_t Pick(const std::function<bool(uint64_t)>& in_use);
  void Revoke(Set& set);
  std::byte* Cell(uint32_t index) { return mailbox_.data() + size_t{index} * kMailboxCellBytes; }

  Fabric& fabric_;
  std::vector<std::byte> mailbox_;
  uint32_t mailbox_region_ = 0;
  std::vector<Set> sets_;
  uint64_t handed_out_ = 0;
};

}  // namespace baton::transfer
