// Decode's view of one prefill address: registration, heartbeats, and the HTTP calls to it. Lives on
// the decode service's strand, and for as long as a session or something under way (pairing, heartbeats,
// coming back) holds it.
//
// Routers may name one server in two ways (a DNS name and an IP). It is paired once all the same: an
// address asks who answers there before it registers, and follows the peer that has that instance.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>

#include "disagg/link.h"
#include "http/client.h"

namespace baton::disagg {

namespace asio = boost::asio;

class PrefillPeer;

// Which peer is paired, or is about to pair, with an instance.
using PairedInstances = std::unordered_map<uint64_t, std::weak_ptr<PrefillPeer>>;

// What peers borrow from their service.
struct PeerContext {
  asio::strand<asio::any_io_executor> strand;
  http::Client* client;
  Link* link;
  PairedInstances* paired;
};

class PrefillPeer : public std::enable_shared_from_this<PrefillPeer> {
 public:
  // The peer is the one to use from then on: this one, or that of another address of the same server.
  using Ready = std::function<void(Status, std::shared_ptr<PrefillPeer>)>;

  // on_lost: the pairing ended (heartbeats missed, another instance answers, fabric lost it).
  PrefillPeer(PeerContext context, http::Origin origin, std::function<void(Status)> on_lost);

  // Calls `ready` once, now or when registration ended. A lost peer is registered anew.
  void WhenReady(Ready ready);
  // Ends the pairing; OnFenced of its sessions follows from the fabric's event.
  void Disconnect();

  // Sends the grant; frames arrive through `on_frame`, the end of the answer through `on_closed`
  // (OK: after an End frame). All on the strand, and none before this call returns.
  void SendGrant(Grant grant, std::function<void(Frame)> on_frame, std::function<void(Status)> on_closed);
  // The room failed here, granted or not: prefill is to stop, or need not wait for a grant. Nothing is
  // sent where nobody answers.
  void SendCancel(int64_t room, std::string_view guilty, Status why);

  bool ready() const { return state_ == State::kReady; }
  transfer::PeerId id() const { return id_; }
  uint64_t instance() const { return instance_; }
  uint64_t pairing() const { return pairing_; }
  // Nobody answered the last try to pair, or no prefill server did.
  bool mute() const { return mute_; }
  // Its times can be compared with ours.
  bool shares_clock() const { return shares_clock_; }
  const http::Origin& origin() const { return origin_; }
  const std::string& name() const { return name_; }
  void Stop();

 private:
  enum class State { kIdle, kRegistering, kReady };
  asio::awaitable<void> Register();
  asio::awaitable<Status> TryRegister(TimePoint deadline);
  asio::awaitable<Result<uint64_t>> AskInstance();
  asio::awaitable<Result<PeerInfo>> ReadHello(http::ClientStream& line, TimePoint deadline);
  void Follow(const std::shared_ptr<PrefillPeer>& leader);
  asio::awaitable<void> Watch(std::shared_ptr<http::ClientStream> line);
  std::shared_ptr<PrefillPeer> OtherPeerOf(uint64_t instance) const;
  asio::awaitable<void> Heartbeat(uint64_t pairing);
  asio::awaitable<void> ComeBack();
  asio::awaitable<void> RunGrant(Grant grant, std::function<void(Frame)> on_frame,
                                 std::function<void(Status)> on_closed);
  asio::awaitable<Status> ReadFrames(http::ClientStream& stream, TimePoint deadline,
                                     const std::function<void(Frame)>& on_frame);
  asio::awaitable<Result<http::Response>> Post(std::string path, std::string body, Duration timeout);
  http::ClientRequest MakePost(std::string path, std::string body) const;
  void Lost(Status why);

  PeerContext context_;
  const http::Origin origin_;
  std::function<void(Status)> on_lost_;
  State state_ = State::kIdle;
  transfer::PeerId id_{};
  uint64_t instance_ = 0;
  uint64_t pairing_ = 0;   // random, new with each registration
  std::string name_;
  bool shares_clock_ = false;
  std::vector<Ready> waiting_;
  std::shared_ptr<http::ClientStream> line_;  // registration's answer, open while paired
  std::weak_ptr<PrefillPeer> leader_;  // what this address follows, while that is paired
  std::vector<std::shared_ptr<PrefillPeer>> followers_;  // known for so long
  bool mute_ = false;
  asio::steady_timer beat_;
  bool coming_back_ = false;
  bool stopped_ = false;
};

}  // namespace baton::disagg
