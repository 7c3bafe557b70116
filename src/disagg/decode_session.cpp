#include "disagg/decode_session.h"

namespace baton::disagg {

DecodeSession::Actions DecodeSession::OnPeer(Status status) {
  Actions out;
  if (!status.ok()) Fail(std::move(status), out);
  else peer_ = true;
  if (status_.ok()) return GrantIfReady();
  ReleaseIfSafe(out);
  return out;
}

DecodeSession::Actions DecodeSession::OnReserved(Status status) {
  Actions out;
  reserve_done_ = true;
  reserved_ = status.ok();
  if (!status.ok()) Fail(std::move(status), out);
  if (status_.ok()) return GrantIfReady();
  ReleaseIfSafe(out);
  return out;
}

DecodeSession::Actions DecodeSession::GrantIfReady() {
  if (!peer_ || !reserved_ || granted_) return {};
  granted_ = true;
  return {Action::kGrant};
}

DecodeSession::Actions DecodeSession::OnGrantFailed(Status status) {
  Actions out;
  granted_ = false;
  peer_ = false;
  slot_released_ = true;  // there is none, or the caller has given it back
  Fail(std::move(status), out);
  ReleaseIfSafe(out);
  return out;
}

DecodeSession::Actions DecodeSession::OnSeal() {
  if (sealed_ || !status_.ok()) return {};
  sealed_ = true;
  return {Action::kSealSlot};
}

DecodeSession::Actions DecodeSession::OnSlotEnd(Status status) {
  Actions out;
  slot_done_ = true;
  if (!status.ok()) {
    Fail(std::move(status), out);
    ReleaseIfSafe(out);
    return out;
  }
  safe_ = true;  // every write that will ever come has come
  if (status_.ok()) {
    started_ = true;
    slot_released_ = true;
    pages_released_ = true;  // the engine's now
    return {Action::kStart, Action::kReleaseSlot};
  }
  ReleaseIfSafe(out);
  return out;
}

DecodeSession::Actions DecodeSession::OnEnd(Status status) {
  Actions out;
  if (started_) return out;
  ended_ = status.ok();
  if (!status.ok()) {
    safe_ = true;
    Fail(std::move(status), out);
    ReleaseIfSafe(out);
  } else if (!sealed_ || !status_.ok()) {
    // Ended well but we gave up meanwhile (or never saw a seal): its writes are all delivered.
    safe_ = true;
    if (status_.ok()) Fail(Error(Code::kDataCorrupt, "prefill ended without a seal"), out);
    ReleaseIfSafe(out);
  }
  return out;
}

DecodeSession::Actions DecodeSession::OnPeerBroken(Status status) {
  Actions out;
  if (started_ || safe_) return out;
  Fail(std::move(status), out);
  if (granted_ && !fencing_) {
    fencing_ = true;
    out.push_back(Action::kFence);
  }
  return out;
}

DecodeSession::Actions DecodeSession::OnFenced() {
  Actions out;
  if (started_) return out;
  safe_ = true;
  Fail(Error(Code::kUnavailable, "the prefill server was disconnected"), out);
  ReleaseIfSafe(out);
  return out;
}

DecodeSession::Actions DecodeSession::OnFail(Status why) {
  Actions out;
  if (started_) {
    out.push_back(Action::kAbortEngine);
    return out;
  }
  Fail(std::move(why), out);
  ReleaseIfSafe(out);
  return out;
}

void DecodeSession::Fail(Status why, Actions& out) {
  if (!status_.ok()) return;
  status_ = std::move(why);
  if (ended_) safe_ = true;
  out.push_back(Action::kFailClient);
  if (!reserve_done_) out.push_back(Action::kAbortEngine);
  if (!safe_) out.push_back(Action::kTellPrefill);
  if (granted_ && !slot_done_) out.push_back(Action::kCancelSlot);
}

void DecodeSession::ReleaseIfSafe(Actions& out) {
  if (started_ || status_.ok()) return;
  if (granted_ && !safe_) return;
  if (granted_ && slot_done_ && !slot_released_) {
    slot_released_ = true;
    out.push_back(Action::kReleaseSlot);
  }
  if (reserved_ && !pages_released_) {
    pages_released_ = true;
    out.push_back(Action::kReleasePages);
  }
}

bool DecodeSession::finished() const {
  if (started_) return true;
  if (status_.ok() || !reserve_done_) return false;
  if (reserved_ && !pages_released_) return false;
  return !granted_ || slot_released_;
}

}  // namespace baton::disagg
