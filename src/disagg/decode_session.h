// One PD request on the decode side, as a pure state machine (see prefill_session.h).
//
// Peer and pages are asked for at once; when both are there the grant goes out. The request starts
// when every byte has landed: count and seal agree. After a failure the client is told at once, but
// slot and pages stay in quarantine until the peer said that it writes no more (End), or until the
// peer is fenced off. Everything is given back exactly once.
#pragma once

#include <cstdint>
#include <vector>

#include "common/status.h"

namespace baton::disagg {

class DecodeSession {
 public:
  enum class Action : uint8_t {
    kGrant,          // take a slot, send the grant
    kSealSlot,       // tell the transfer engine how many writes to expect
    kStart,          // hand reservation and first token to the engine
    kAbortEngine,    // a reservation that waits, or a request that runs
    kTellPrefill,    // to stop, or not to wait for a grant; if one is out, End will come
    kCancelSlot,
    kFence,          // disconnect the peer; OnFenced will come
    kFailClient,     // the request's last event, with status()
    kReleasePages,
    kReleaseSlot,
  };
  using Actions = std::vector<Action>;

  Actions OnPeer(Status status);        // connected, or not
  Actions OnReserved(Status status);    // pages reserved, or not (always comes)
  Actions OnGrantFailed(Status status); // no slot or no way to send it: prefill has not seen it
  Actions OnSeal();
  Actions OnSlotEnd(Status status);     // all bytes landed, or the slot failed
  Actions OnEnd(Status status);         // prefill: over, nothing in flight
  Actions OnPeerBroken(Status status);  // grant's answer broke off before End
  Actions OnFenced();
  Actions OnFail(Status why);           // client gone, deadline

  bool started() const { return started_; }
  bool granted() const { return granted_; }
  // Nothing is outstanding: the session may be forgotten.
  bool finished() const;
  bool quarantined() const { return granted_ && !started_ && !status_.ok() && !safe_; }
  const Status& status() const { return status_; }

 private:
  Actions GrantIfReady();
  void Fail(Status why, Actions& out);
  void ReleaseIfSafe(Actions& out);

  bool peer_ = false, reserved_ = false, reserve_done_ = false;
  bool ended_ = false;          // prefill's last word came, and it was a good one
  bool granted_ = false, sealed_ = false, slot_done_ = false, started_ = false;
  bool safe_ = false;           // prefill cannot write any more
  bool fencing_ = false;
  bool pages_released_ = false, slot_released_ = false;
  Status status_;
};

}  // namespace baton::disagg
