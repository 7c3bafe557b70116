#include "engine/engine_impl.h"

namespace baton::engine {

KvReservation::KvReservation() = default;
KvReservation::KvReservation(KvReservation&&) noexcept = default;
KvReservation& KvReservation::operator=(KvReservation&&) noexcept = default;
KvReservation::~KvReservation() = default;

std::span<const PageId> KvReservation::pages() const { return state_->pages; }
int KvReservation::cached_tokens() const { return state_->cached_tokens; }
RequestId KvReservation::id() const { return state_->id; }

}  // namespace baton::engine
