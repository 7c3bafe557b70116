// What the prefill side holds for one bootstrap_room: from whichever half comes first until the tombstone
// of both is forgotten.
#pragma once

#include <memory>
#include <optional>
#include <string_view>

#include "disagg/grant_call.h"
#include "disagg/kv_push.h"
#include "disagg/prefill_session.h"

namespace baton::disagg {

// A late half is told the cause for so long.
inline constexpr Duration kTombstoneTime = 30s;

struct Room {
  enum class Phase : uint8_t { kWaiting, kInflight, kSettled };  // for its other half; computing or sending; over
  static constexpr size_t kPhases = 3;

  int64_t number = 0;
  PrefillSession session;
  std::optional<engine::Request> request;       // until it is submitted
  std::shared_ptr<engine::OutputSink> sink;     // the client's
  RequestId id;
  std::shared_ptr<GrantCall> grant;
  transfer::SendId send;
  std::optional<KvPush::Result> result;
  bool drained = true;                          // no write of the send can land any more
  TimePoint deadline = TimePoint::max();        // for the other half, or for the transfer
  TimePoint started_at{}, settled_at{};
  std::string_view guilty = "prefill";          // whose fault a failure is

  Phase phase() const {
    return session.settled() ? Phase::kSettled : session.started() ? Phase::kInflight : Phase::kWaiting;
  }
  // When it is late, or, once settled, to be forgotten.
  TimePoint due() const { return session.settled() ? settled_at + kTombstoneTime : deadline; }

  // Before the session hears of a failure; only the first cause is told.
  void Blame(std::string_view side) {
    if (session.status().ok()) guilty = side;
  }
};

}  // namespace baton::disagg
