// What the decode side holds for one request until it runs or has failed and everything is given back.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string_view>

#include "disagg/decode.h"
#include "disagg/decode_session.h"
#include "disagg/prefill_peer.h"

namespace baton::disagg {

struct Transfer {
  enum class Phase : uint8_t { kPrealloc, kTransfer, kQuarantine };  // as DecodeCounts
  static constexpr size_t kPhases = 3;

  RequestId id;
  int64_t room = 0;
  DecodeSession session;
  std::shared_ptr<engine::OutputSink> sink;
  int prompt_tokens = 0;
  int kv_tokens = 0;                     // of the prompt and of a resumed request's outputs
  bool want_prompt_logprobs = false;
  std::function<void(const TransferTiming&)> on_transfer;
  std::shared_ptr<PrefillPeer> peer;
  transfer::PeerId peer_id{};            // of the pairing that the grant used
  std::optional<engine::KvReservation> reservation;
  std::optional<transfer::Slot> slot;
  std::optional<Seal> seal;
  TimePoint sealed_at{};
  TransferTiming timing;
  TimePoint deadline = TimePoint::max();
  std::string_view guilty = {};          // whose fault the first failure is
  size_t counted_pages = 0;              // of its quarantined pages in the service's sum

  Phase phase() const {
    return session.quarantined() ? Phase::kQuarantine : session.granted() ? Phase::kTransfer : Phase::kPrealloc;
  }
  TimePoint due() const { return deadline; }
  size_t quarantined_pages() const { return session.quarantined() && reservation ? reservation->pages().size() : 0; }

  // Before the session hears of a failure; only the first cause is told.
  void Blame(std::string_view side) {
    if (guilty.empty() && session.status().ok()) guilty = side;
  }
};

}  // namespace baton::disagg
