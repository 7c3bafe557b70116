// One PD request on the prefill side, as a pure state machine: events in, actions out. No clock, no
// I/O, no thread; `prefill.cpp` performs the actions, the tests drive every interleaving.
//
// A session begins with whichever comes first, the client's request or decode's grant. It starts
// when both are there, seals when the first token exists, and settles when the engine has let go of
// the request and no write is in flight. Then, and only then, the pages are released, decode gets
// its End and the client its answer: each exactly once. A settled session stays as a tombstone for
// a while, so that a late half is answered with the cause at once.
#pragma once

#include <cstdint>
#include <vector>

#include "common/status.h"

namespace baton::disagg {

class PrefillSession {
 public:
  enum class Action : uint8_t {
    kStart,         // begin the send and submit to the engine
    kSeal,          // no more pushes will come: finish the send, send the seal to decode
    kAbortEngine,
    kCancelSend,
    kReleaseHold,   // the source pages may be reused
    kEndGrant,      // End{status()} to decode
    kAnswerClient,  // the request's last event, with status()
  };
  using Actions = std::vector<Action>;

  Actions OnRequest();
  Actions OnGrant();
  // The engine has no part in it any more (token sampled, aborted, failed). After kStart always comes.
  Actions OnEngineEnd(Status status);
  // No write is in flight any more. After kStart always comes.
  Actions OnSendEnd(Status status);
  // Cancelled by the client, by decode, by a deadline or by a failed push.
  Actions OnFail(Status why);

  bool has_request() const { return request_; }
  bool has_grant() const { return grant_; }
  bool started() const { return started_; }
  bool settled() const { return settled_; }
  const Status& status() const { return status_; }

 private:
  Actions StartIfReady();
  void Fail(Status why, Actions& out);
  void SettleIfDone(Actions& out);

  bool request_ = false, grant_ = false;
  bool started_ = false, engine_done_ = false, send_done_ = false, settled_ = false;
  Status status_;
};

}  // namespace baton::disagg
