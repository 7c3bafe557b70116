// What calls from any thread must know of regions and peers: sizes and keys, to check a transfer
// before it starts. The worker keeps it up to date; its own view of peers is peer.h.
// Thread-safe; never touched by Push.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "transfer/blob.h"
#include "transfer/key_sets.h"
#include "transfer/sends.h"

namespace baton::transfer {

class Directory {
 public:
  RegionId AddRegion(KeySets::Region region) {
    std::lock_guard lock(mutex_);
    regions_.push_back(region);
    return {static_cast<uint32_t>(regions_.size() - 1)};
  }
  std::vector<KeySets::Region> Regions() const {
    std::lock_guard lock(mutex_);
    return regions_;
  }

  void AddPeer(PeerId id, const std::vector<RemoteRegion>& regions) {
    std::lock_guard lock(mutex_);
    peers_[id.value] = regions;
  }
  void RemovePeer(PeerId id) {
    std::lock_guard lock(mutex_);
    peers_.erase(id.value);
  }

  Status CheckPeer(PeerId id) const {
    std::lock_guard lock(mutex_);
    return peers_.contains(id.value) ? Status::Ok() : NoPeer(id);
  }

  // Fills regions, sizes and keys of `route`, whose peer is set.
  Status FillRoute(RegionId local, RegionId remote, SendTable::Route& route) const {
    std::lock_guard lock(mutex_);
    const auto peer = peers_.find(route.peer.value);
    if (peer == peers_.end()) return NoPeer(route.peer);
    if (local.value >= regions_.size())
      return Error(Code::kInvalidArgument, "region {} is not registered ({} are)", local.value,
                   regions_.size());
    if (remote.value >= peer->second.size())
      return Error(Code::kInvalidArgument, "the peer describes {} regions, not number {}",
                   peer->second.size(), remote.value);
    route.local_region = regions_[local.value].fabric_region;
    route.local_bytes = regions_[local.value].size_bytes;
    route.remote_region_id = remote.value;
    route.remote = peer->second[remote.value].key;
    route.remote_bytes = peer->second[remote.value].size_bytes;
    return Status::Ok();
  }

 private:
  static Status NoPeer(PeerId id) {
    return Error(Code::kUnavailable, "peer {} is not connected (any more)", id.value);
  }
  mutable std::mutex mutex_;
  std::vector<KeySets::Region> regions_;
  std::unordered_map<uint32_t, std::vector<RemoteRegion>> peers_;
};

}  // namespace baton::transfer
