// What both halves of a PD pair share: the transfer engine over the KV pool, who we are, and the
// deadlines.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "disagg/messages.h"
#include "engine/engine.h"
#include "transfer/transfer.h"

namespace baton::disagg {

struct LinkOptions {
  std::string name;                 // "prefill 127.0.0.1:30001"
  std::string model;                // what PeerInfo::model says
  transfer::Options fabric;
  // One half of a request waits this long for the other (--disaggregation-bootstrap-timeout).
  std::chrono::milliseconds bootstrap_timeout{30'000};
  // From grant to the last byte, prefill's queue included (--disaggregation-transfer-timeout).
  std::chrono::milliseconds transfer_timeout{120'000};
  std::chrono::milliseconds heartbeat_interval{1'000};
  int heartbeat_misses = 3;         // then the peer counts as dead
};

// The local end: KV pool registered with an open fabric.
struct Link {
  LinkOptions options;
  engine::Engine* engine = nullptr;
  std::unique_ptr<transfer::Engine> fabric;
  transfer::RegionId kv_region;
  PeerInfo self;  // without fabric: see Introduce

  // Who we are, for one peer: every description carries keys of its own, so that losing that peer
  // takes away its access alone.
  PeerInfo Introduce() const {
    PeerInfo info = self;
    info.fabric = fabric->Describe();
    return info;
  }

  // Blocks until the peer is reachable. While its former pairing is still being taken down the
  // fabric asks to try again: that is done here, until the deadline.
  Result<transfer::PeerId> Connect(const PeerInfo& peer, TimePoint deadline) const;
};

// Opens the fabric, registers the engine's KV pool and draws the instance id.
Result<std::unique_ptr<Link>> OpenLink(LinkOptions options, engine::Engine& engine,
                                       std::function<void(const transfer::Event&)> on_event);

}  // namespace baton::disagg
