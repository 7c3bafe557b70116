// What both halves of a PD pair share: the transfer engine over the KV pool, who we are, and the
// deadlines.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/thread_pool.hpp>

#include "disagg/messages.h"
#include "engine/engine.h"
#include "transfer/transfer.h"

namespace baton::disagg {

namespace asio = boost::asio;

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
  std::chrono::milliseconds come_back_time{300'000};  // a lost prefill server is looked for so long
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

  // Ends when the peer is reachable, 5 s after the call at the latest. Up to kPairingsAtOnce go on side by
  // side, so that a peer that cannot be reached keeps no other waiting. Back on the caller's executor.
  // kUnavailable: exchange new descriptions. A former pairing is still being taken down, or losing some
  // other peer took the description back: that is done to all that are not yet in use.
  asio::awaitable<Result<transfer::PeerId>> Connect(PeerInfo peer);
  // Waits for those under way; later ones never end.
  void StopConnecting() { connector.join(); }

  static constexpr int kPairingsAtOnce = 16;
  asio::thread_pool connector{kPairingsAtOnce};  // the fabric's Connect blocks
};

// Opens the fabric, registers the engine's KV pool and draws the instance id.
Result<std::unique_ptr<Link>> OpenLink(LinkOptions options, engine::Engine& engine,
                                       std::function<void(const transfer::Event&)> on_event);

}  // namespace baton::disagg
