#include "transfer/libfabric/read_orders.h"

#include <algorithm>
#include <atomic>
#include <utility>

namespace baton::transfer::reads {

Result<Region> MakeRegion(Endpoint& endpoint, MemorySpan memory, uint64_t key) {
  const fi_domain_attr& domain = *endpoint.info().domain_attr;
  if (domain.mr_key_size < sizeof key) key &= (uint64_t{1} << (8 * domain.mr_key_size)) - 1;
  fid_mr* mr = nullptr;
  int error = fi_mr_reg(endpoint.domain.get(), memory.data, memory.size_bytes,
                        FI_SEND | FI_RECV | FI_READ | FI_REMOTE_READ, 0,
                        endpoint.app_keys() ? key : 0, 0, &mr, nullptr);
  if (error) return endpoint.Failed("fi_mr_reg", error);
  Region region{.memory = memory, .mr = Fid<fid_mr>(mr)};
  if (domain.mr_mode & FI_MR_ENDPOINT) {
    if ((error = fi_mr_bind(mr, &endpoint.ep->fid, 0))) return endpoint.Failed("fi_mr_bind", error);
    if ((error = fi_mr_enable(mr))) return endpoint.Failed("fi_mr_enable", error);
  }
  region.desc = fi_mr_desc(mr);
  region.key = fi_mr_key(mr);
  if (domain.mr_mode & FI_MR_VIRT_ADDR) region.base = reinterpret_cast<uint64_t>(memory.data);
  return region;
}

Status Orders::Open(uint32_t orders, uint64_t sender, uint64_t keys, uint64_t tickets) {
  next_ticket_ = tickets;
  parcels_ = std::vector<Parcel>(orders);
  leases_.resize(kMaxWays);
  for (uint32_t i = 0; i < kMaxWays; ++i) free_leases_.push_back(kMaxWays - 1 - i);
  Result<Region> region = MakeRegion(
      endpoint_, {reinterpret_cast<std::byte*>(parcels_.data()), orders * sizeof(Parcel)}, keys);
  if (!region) return region.status();
  parcel_region_ = *std::move(region);
  region = MakeRegion(
      endpoint_, {reinterpret_cast<std::byte*>(leases_.data()), kMaxWays * sizeof(uint64_t)},
      keys + 1);
  if (!region) return region.status();
  lease_region_ = *std::move(region);
  if (endpoint_.address.size() > kMaxAddress)
    return Error(Code::kUnsupported, "libfabric {}: addresses of {} bytes do not fit an order",
                 endpoint_.choice.name, endpoint_.address.size());
  unsent_.reserve(orders);
  for (Parcel& parcel : parcels_) {
    parcel.send = {.kind = Operation::Kind::kOrder, .owner = &parcel};
    parcel.order.header.sender = sender;
    parcel.order.address_bytes = static_cast<uint32_t>(endpoint_.address.size());
    endpoint_.address.copy(parcel.order.address, kMaxAddress);
    free_.push_back(&parcel);
  }
  return Status::Ok();
}

Result<uint64_t> Orders::Insert(std::string_view address) {
  if (free_leases_.empty())
    return Error(Code::kResourceExhausted, "{} peers are connected, which is the most", kMaxWays);
  Result<uint64_t> handle = endpoint_.Insert(address);
  if (!handle) return handle;
  auto way = std::make_unique<Way>();
  way->handle = *handle;
  way->lease = free_leases_.back();
  free_leases_.pop_back();
  leases_[way->lease] = next_lease_++;
  unanswered_.push_back(way.get());
  ways_[next_way_] = std::move(way);
  return next_way_++;
}

void Orders::Remove(uint64_t peer) {
  const auto found = ways_.find(peer);
  if (found == ways_.end()) return;
  Way& way = *found->second;
  // A peer that reads on finds the lease ended after its bytes came, and drops them.
  std::atomic_ref(leases_[way.lease]).store(0, std::memory_order_seq_cst);
  free_leases_.push_back(way.lease);
  FailWay(way, Error(Code::kUnavailable, "libfabric {}: the peer was removed",
                     endpoint_.choice.name));
  endpoint_.Remove(way.handle);
  std::erase(unanswered_, &way);
  ways_.erase(found);
}

void Orders::FailWay(Way& way, const Status& why) {
  way.open = nullptr;
  for (Parcel& parcel : parcels_) {
    if (parcel.way != &way) continue;
    std::erase(unsent_, &parcel);
    Settle(parcel, ~0u, why);
    parcel.way = nullptr;
    if (parcel.sending) {
      parcel.stranded_at = way.handle;
      ++stranded_[way.handle];
    }
    FreeIfOver(parcel);
  }
}

void Orders::Lose(uint64_t handle) {
  for (const auto& [id, way] : ways_) {
    if (way->handle != handle) continue;
    FailWay(*way, Error(Code::kUnavailable, "libfabric {}: the way to the peer was cut",
                        endpoint_.choice.name));
    way->handle = FI_ADDR_UNSPEC;
  }
}

PostResult Orders::Write(const WriteRequest& request, const Region& source, Status& why) {
  const auto found = ways_.find(request.peer);
  if (found == ways_.end()) {
    why = Error(Code::kInternal, "libfabric {}: write to a removed peer", endpoint_.choice.name);
    return PostResult::kFailed;
  }
  Way& way = *found->second;
  if (way.handle == FI_ADDR_UNSPEC) {
    why = Error(Code::kUnavailable, "libfabric {}: the peer is lost", endpoint_.choice.name);
    return PostResult::kFailed;
  }
  if (way.open && way.open->count == kMaxPieces) {
    if (!Send(*way.open)) return PostResult::kAgain;
    std::erase(unsent_, way.open);
    way.open = nullptr;
  }
  if (!way.open && !(way.open = Take(way))) return PostResult::kAgain;
  Parcel& parcel = *way.open;
  parcel.members[parcel.count] = request.context;
  parcel.order.pieces[parcel.count++] = {.source = source.base + request.local_offset,
                                         .source_key = source.key,
                                         .target = request.remote_address,
                                         .target_key = request.remote_key,
                                         .bytes = static_cast<uint32_t>(request.bytes),
                                         .imm = request.imm};
  return PostResult::kPosted;
}

Orders::Parcel* Orders::Take(Way& way) {
  if (way.in_flight >= way.window || free_.empty()) return nullptr;
  if (!stranded_.empty())
    if (const auto found = stranded_.find(way.handle); found != stranded_.end() && found->second >= kMaxStranded)
      return nullptr;
  Parcel* const parcel = free_.back();
  free_.pop_back();
  ++way.in_flight;
  parcel->way = &way;
  parcel->count = 0;
  parcel->waiting = true;
  Order& order = parcel->order;
  // The place of the parcel in the lower half finds it again; the upper half makes it unique.
  order.header.ticket = ++next_ticket_ << 16 | static_cast<uint64_t>(parcel - parcels_.data());
  order.lease = lease_region_.base + way.lease * sizeof(uint64_t);
  order.lease_key = lease_region_.key;
  order.lease_value = leases_[way.lease];
  unsent_.push_back(parcel);
  return parcel;
}

void Orders::Flush(TimePoint now) {
  // A peer that takes nothing now does not hold up the others.
  std::erase_if(unsent_, [this](Parcel* parcel) {
    Way* const way = parcel->way;
    if (!Send(*parcel)) return false;
    way->open = nullptr;
    return true;
  });
  for (Way* const way : unanswered_)
    if (way->first && !way->first->sending) Repeat(*way, now);
}

// Its window is one order until there was an answer.
void Orders::Repeat(Way& way, TimePoint now) {
  if (way.repeat_at == TimePoint{}) way.repeat_at = now + way.patience;
  if (now < way.repeat_at || !Send(*way.first)) return;
  way.patience = std::min(2 * way.patience, kMostPatience);
}

// False when it must be tried again.
bool Orders::Send(Parcel& parcel) {
  parcel.order.header.pieces = static_cast<uint16_t>(parcel.count);
  const ssize_t result = fi_send(endpoint_.ep.get(), &parcel.order, OrderBytes(parcel.count),
                                 parcel_region_.desc, parcel.way->handle, &parcel.send);
  if (result == -FI_EAGAIN) return false;
  parcel.sending = result == 0;
  parcel.way->first = &parcel;
  parcel.way->repeat_at = {};
  if (result != 0) {
    Settle(parcel, ~0u, endpoint_.Failed("fi_send", result));
    FreeIfOver(parcel);
  }
  return true;
}

void Orders::OnSent(Operation& operation, const Status& status) {
  Parcel& parcel = *static_cast<Parcel*>(operation.owner);
  parcel.sending = false;
  if (!status.ok()) Settle(parcel, ~0u, status);
  FreeIfOver(parcel);
}

void Orders::OnAnswer(const Answer& answer) {
  const uint64_t place = answer.header.ticket & 0xFFFF;
  if (place >= parcels_.size()) return;
  Parcel& parcel = parcels_[place];
  if (!parcel.waiting || parcel.order.header.ticket != answer.header.ticket) return;
  if (parcel.way) {
    parcel.way->window = std::max(parcel.way->window, answer.window);
    if (!unanswered_.empty()) std::erase(unanswered_, parcel.way);
  }
  Status why;
  if (answer.failed)
    why = Error(Code::kUnavailable, "libfabric {}: the peer refused a write or could not read it: {}",
                endpoint_.choice.name, fi_strerror(answer.error));
  Settle(parcel, answer.failed, why);
  FreeIfOver(parcel);
}

// The writes of the parcel end, once.
void Orders::Settle(Parcel& parcel, uint32_t failed, const Status& why) {
  if (!parcel.waiting) return;
  parcel.waiting = false;
  if (parcel.way) {
    --parcel.way->in_flight;
    if (parcel.way->first == &parcel) parcel.way->first = nullptr;
  }
  for (uint32_t i = 0; i < parcel.count; ++i) {
    Completion& completion = ready_.emplace_back();
    completion.context = parcel.members[i];
    if (!(failed >> i & 1)) continue;
    completion.kind = Completion::Kind::kFailed;
    completion.peer_lost = true;
    completion.status = why;
  }
}

void Orders::FreeIfOver(Parcel& parcel) {
  if (parcel.sending || parcel.waiting) return;
  parcel.way = nullptr;
  if (const uint64_t handle = std::exchange(parcel.stranded_at, FI_ADDR_UNSPEC); handle != FI_ADDR_UNSPEC)
    if (--stranded_[handle] == 0) stranded_.erase(handle);
  free_.push_back(&parcel);
}

void Orders::FailAll(const Status& why) {
  unsent_.clear();
  for (Parcel& parcel : parcels_) Settle(parcel, ~0u, why);
}

}  // namespace baton::transfer::reads
