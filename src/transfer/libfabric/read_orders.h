// The writing half of the read fabric: collects writes into orders, sends them, waits for answers.
//
// That an order was sent does not mean that the peer has it: a peer that closes the connection (it may still
// be taking leave of the session before this one) loses what it has not read, and nobody says so. Once there
// was an answer the connection is one that it keeps. Until then the order is repeated, the same with the same
// ticket, so that the peer knows it again.
//
// Fixed size, no allocation after Open and Insert. Owner thread only.
#pragma once

#include <array>
#include <memory>
#include <unordered_map>
#include <vector>

#include "transfer/fabric.h"
#include "transfer/libfabric/endpoint.h"
#include "transfer/libfabric/read_messages.h"

namespace baton::transfer::reads {

// First member of all that is posted: what a completion is of.
struct Operation {
  OpContext context{};
  enum class Kind : uint8_t { kOrder, kReceive, kRead, kLease, kAnswer } kind = Kind::kOrder;
  void* owner = nullptr;
};

// A registered region, as this end of a read sees it.
struct Region {
  MemorySpan memory;
  Fid<fid_mr> mr = {};
  void* desc = nullptr;
  uint64_t base = 0, key = 0;  // for peers that read from it
};
Result<Region> MakeRegion(Endpoint& endpoint, MemorySpan memory, uint64_t key);

class Orders {
 public:
  // `ready`: where completions go; has room for all that there can be.
  Orders(Endpoint& endpoint, std::vector<Completion>& ready) : endpoint_(endpoint), ready_(ready) {}

  // `orders`: how many may be unanswered, all peers. `keys`: two keys that nothing else uses. `tickets`: where
  // to begin to count.
  Status Open(uint32_t orders, uint64_t sender, uint64_t keys, uint64_t tickets);

  Result<uint64_t> Insert(std::string_view address);
  // From here on no read of this peer counts: its writes fail, their sources are free.
  void Remove(uint64_t peer);
  PostResult Write(const WriteRequest& request, const Region& source, Status& why);
  // Sends what was collected, as far as it can be, and again what may be lost.
  void Flush(TimePoint now);
  bool idle() const { return unsent_.empty(); }

  void OnSent(Operation& operation, const Status& status);
  void OnAnswer(const Answer& answer);
  // The address behind `handle` is gone: its peers' writes fail, now and later.
  void Lose(uint64_t handle);
  // The endpoint is closed: nothing will complete any more.
  void FailAll(const Status& why);

 private:
  // Longer than a peer takes that has a core to run on.
  static constexpr Duration kFirstPatience = 100ms, kMostPatience = 1s;

  struct Parcel;
  struct Way {
    uint64_t handle = 0;  // FI_ADDR_UNSPEC when it was lost
    Parcel* open = nullptr;  // being filled
    uint32_t lease = 0;   // index
    uint32_t window = 1;  // orders that may be unanswered
    uint32_t in_flight = 0;
    Parcel* first = nullptr;  // the order that is repeated
    TimePoint repeat_at{};
    Duration patience = kFirstPatience;
  };
  struct Parcel {
    Operation send;
    Way* way = nullptr;  // nullptr when its peer is gone
    uint32_t count = 0;
    bool sending = false, waiting = false;  // for the provider; for the answer
    uint64_t stranded_at = FI_ADDR_UNSPEC;  // its way is gone, but the provider still has it
    std::array<OpContext*, kMaxPieces> members{};
    Order order;
  };

  Parcel* Take(Way& way);
  bool Send(Parcel& parcel);
  void Repeat(Way& way, TimePoint now);
  void FailWay(Way& way, const Status& why);
  void Settle(Parcel& parcel, uint32_t failed, const Status& why);
  void FreeIfOver(Parcel& parcel);

  static constexpr uint32_t kMaxWays = 1024;
  // Words that may wait in a connection that nobody can close; then no more are given to it.
  static constexpr uint32_t kMaxStranded = 8;

  Endpoint& endpoint_;
  std::vector<Completion>& ready_;
  std::vector<Parcel> parcels_;
  std::vector<Parcel*> free_;
  std::vector<uint64_t> leases_;  // read by peers; 0: nothing of this way may be read
  std::vector<uint32_t> free_leases_;
  Region parcel_region_, lease_region_;
  std::unordered_map<uint64_t, std::unique_ptr<Way>> ways_;
  std::vector<Parcel*> unsent_;
  std::vector<Way*> unanswered_;  // that never had an answer
  std::unordered_map<uint64_t, uint32_t> stranded_;  // by handle
  uint64_t next_way_ = 1, next_lease_ = 1, next_ticket_ = 0;
};

}  // namespace baton::transfer::reads
