#include "disagg/prefill_session.h"

namespace baton::disagg {

PrefillSession::Actions PrefillSession::OnRequest() {
  BATON_CHECK(!request_);
  request_ = true;
  if (settled_) return {Action::kAnswerClient};
  return StartIfReady();
}

PrefillSession::Actions PrefillSession::OnGrant() {
  BATON_CHECK(!grant_);
  grant_ = true;
  if (settled_) return {Action::kEndGrant};
  return StartIfReady();
}

PrefillSession::Actions PrefillSession::StartIfReady() {
  if (!request_ || !grant_) return {};
  started_ = true;
  return {Action::kStart};
}

PrefillSession::Actions PrefillSession::OnEngineEnd(Status status) {
  BATON_CHECK(started_ && !engine_done_);
  engine_done_ = true;
  Actions out;
  if (!status.ok()) Fail(std::move(status), out);
  else if (status_.ok()) out.push_back(Action::kSeal);
  SettleIfDone(out);
  return out;
}

PrefillSession::Actions PrefillSession::OnSendEnd(Status status) {
  BATON_CHECK(started_ && !send_done_);
  send_done_ = true;
  Actions out;
  if (!status.ok()) Fail(std::move(status), out);
  SettleIfDone(out);
  return out;
}

PrefillSession::Actions PrefillSession::OnFail(Status why) {
  Actions out;
  if (settled_) return out;
  Fail(std::move(why), out);
  SettleIfDone(out);
  return out;
}

void PrefillSession::Fail(Status why, Actions& out) {
  if (!status_.ok()) return;  // the first cause is the one that is told
  status_ = std::move(why);
  if (started_ && !engine_done_) out.push_back(Action::kAbortEngine);
  if (started_ && !send_done_) out.push_back(Action::kCancelSend);
}

void PrefillSession::SettleIfDone(Actions& out) {
  if (settled_) return;
  if (started_ ? !(engine_done_ && send_done_) : status_.ok()) return;
  settled_ = true;
  if (started_) out.push_back(Action::kReleaseHold);
  if (grant_) out.push_back(Action::kEndGrant);
  if (request_) out.push_back(Action::kAnswerClient);
}

}  // namespace baton::disagg
