// The Fabric behind JoinRails. joined.cpp: memory, keys, writes and completions; breaker.cpp: which
// paths may be used.
// Thread: the owner (fabric.h).
#pragma once

#include <array>
#include <memory>
#include <unordered_map>
#include <vector>

#include "transfer/rails/invitation.h"
#include "transfer/rails/path.h"
#include "transfer/rails/rail_stats.h"
#include "transfer/rails/rails.h"

namespace baton::transfer {

class JoinedRails final : public Fabric {
 public:
  JoinedRails(std::vector<std::unique_ptr<Fabric>> rails, RailTimes times);
  ~JoinedRails() override;

  const FabricTraits& traits() const override { return traits_; }
  std::string Address() const override { return rails_[0].fabric->Address(); }
  Result<std::string> Invite() override;
  Result<uint32_t> Register(MemorySpan memory) override;
  void Unregister(uint32_t region) override;
  Result<MemoryKey> Expose(uint32_t region) override;
  void Revoke(const MemoryKey& key) override;
  Ways TakeDoubts(uint64_t peer) override;
  void CloseWays(uint64_t peer, const Ways& ways, TimePoint now) override;
  Result<MemoryKey> Renew(const MemoryKey& key) override;
  std::string NameOf(std::string_view address) const override;
  Result<uint64_t> Insert(std::string_view address) override;
  void Follow(uint64_t peer, const MemoryKey& key) override;
  void Remove(uint64_t peer) override;
  PostResult Write(const WriteRequest& request, TimePoint now, Status& why) override;
  void Flush(TimePoint now) override;
  size_t Poll(TimePoint now, std::span<Completion> out) override;
  int wait_fd() const override { return wait_fd_; }
  bool PrepareSleep() override;
  std::shared_ptr<const RailsStats> rail_stats() const override { return stats_; }

 private:
  struct Rail {
    std::unique_ptr<Fabric> fabric;
    uint32_t in_flight = 0;
    uint32_t pad_region = 0;
    bool has_pad = false;
    std::array<std::byte, kRailPadBytes> pad{};  // target and source of probes: nobody reads it
  };
  // A key as the engine knows it.
  struct Exposure {
    uint64_t invitation = 0;
    std::vector<MemoryKey> keys;  // by rail
  };
  // Lives as long as one of its keys.
  struct Invitation {
    uint32_t keys = 0;
    std::vector<MemoryKey> pads;  // by rail
  };
  struct Peer {
    RailsInvitation invitation;
    std::vector<Path> paths;        // [local * remotes + remote]
    std::vector<Path*> candidates;  // open, in use
    Ways doubts;                    // since the last TakeDoubts
    uint32_t turn = 0;
    uint32_t in_flight = 0;
    bool busy = true;               // to be tended
    bool reached = false;           // a path was open once
    Status why;                     // of the last failure
  };

  // joined.cpp
  void FillTraits();
  void OpenWaitFd();
  Status MakePads();
  Status InviteOnRails(RailsInvitation& out, std::vector<MemoryKey>& pads);
  Path* Pick(Peer& peer, uint64_t bytes, TimePoint now);
  bool HasRoom(const Path& path) const;
  PostResult PostOn(Path& path, const WriteRequest& request, TimePoint now, Status& why);
  RailOp* TakeOp(Path& path, OpContext* owner, uint64_t bytes, TimePoint now);
  void TakeOff(RailOp* op);
  bool TakeCompletion(uint32_t rail, Completion& completion, TimePoint now);
  bool OnRailPeerGone(uint32_t rail, const Completion& completion, TimePoint now);
  void Report(OpContext* owner, bool in_doubt, const Status& why);

  // breaker.cpp
  bool IsHome(const Peer& peer, const Path& path) const;
  Path& HomeOf(Peer& peer, const Path& path) const;
  bool IsWanted(Peer& peer, const Path& path) const;
  bool MayBeLeft(Peer& peer) const;
  void Choose(Peer& peer);
  void SetState(Path& path, Path::State state);
  void Tend(TimePoint now);
  void TendPath(Peer& peer, Path& path, TimePoint now);
  void CheckSilence(Peer& peer, Path& path, TimePoint now);
  bool IsSuspect(const Path& path, TimePoint now) const;
  void Try(Peer& peer, Path& path, TimePoint now);
  void PostProbe(Peer& peer, Path& path, TimePoint now);
  void OnProbeDone(Peer& peer, Path& path, const Completion& completion, TimePoint now);
  bool Reach(Peer& peer, Path& path);
  void Sever(Peer& peer, Path& path);
  void OweTries(Peer& peer, const Path& lost, TimePoint now);
  void ClosePath(Peer& peer, Path& path, const Status& why, TimePoint now);
  void GiveUpOps(Peer& peer, Path& path, const Status& why);
  bool Drains(const Path& path) const;

  const RailTimes times_;
  FabricTraits traits_;
  std::shared_ptr<RailsStats> stats_;
  OpPool<RailOp> ops_;
  std::vector<std::vector<uint32_t>> regions_;  // [region][rail] -> the rail's
  std::unordered_map<uint64_t, Exposure> exposures_;
  std::unordered_map<uint64_t, Invitation> invitations_;
  std::vector<uint64_t> fresh_;                 // keys exposed since the last invitation
  uint64_t next_invitation_ = 1;
  std::vector<std::unique_ptr<Peer>> peers_;    // by handle; null once removed
  std::vector<Completion> pending_;             // ends that no rail will report
  size_t pending_read_ = 0;
  TimePoint next_tending_{};
  uint32_t first_rail_ = 0;                     // polled first
  int wait_fd_ = -1;
  std::vector<Rail> rails_;                     // last: closed before what their operations live in
};

}  // namespace baton::transfer
