#include "transfer/flight_recorder.h"

#include <algorithm>

#include <fmt/format.h>

namespace baton::transfer {

std::string_view FlightRecorder::NameOf(What what) {
  switch (what) {
    case What::kSlotOpened: return "slot opened, generation";
    case What::kSlotSealed: return "slot sealed, writes";
    case What::kSlotDone: return "slot done, writes";
    case What::kSlotFailed: return "slot failed, writes so far";
    case What::kSlotFreed: return "slot freed, generation";
    case What::kStray: return "stray arrival, immediate";
    case What::kSendOpened: return "send opened, to slot";
    case What::kSendFinishing: return "send finishing, writes so far";
    case What::kSendDone: return "send done, writes";
    case What::kSendFailed: return "send failed, writes in flight";
    case What::kWriteFailed: return "write failed, bytes";
    case What::kHelloSent: return "hello sent, arrivals caused";
    case What::kHelloSeen: return "hello seen from key set, arrivals caused";
    case What::kCreditSent: return "credit sent to key set, granted";
    case What::kCreditSeen: return "credit seen, granted";
    case What::kOutOfCredit: return "out of credit, arrivals caused";
    case What::kFabricBusy: return "fabric busy, writes in flight";
    case What::kPeerAdded: return "peer added, key set";
    case What::kPeerReady: return "peer ready, credit";
    case What::kPeerLost: return "peer lost, writes in flight";
    case What::kPeerGone: return "peer gone, writes unaccounted for";
    case What::kDeadline: return "DEADLINE (slots first, then sends), writes so far";
  }
  return "?";
}

std::string FlightRecorder::Dump(size_t most, TimePoint now) const {
  std::string text;
  const uint64_t count = std::min<uint64_t>({next_, kKept, most});
  for (uint64_t i = next_ - count; i < next_; ++i) {
    const Entry& note = ring_[i % kKept];
    fmt::format_to(std::back_inserter(text), "  -{:.3f} ms peer {} #{} {} {}", Seconds(now - note.at) * 1e3,
                   note.peer, note.subject, NameOf(note.what), note.value);
    if (note.times > 1) fmt::format_to(std::back_inserter(text), " ({} times)", note.times);
    text += '\n';
  }
  return text;
}

}  // namespace baton::transfer
