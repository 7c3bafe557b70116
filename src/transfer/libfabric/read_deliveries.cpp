#include "transfer/libfabric/read_deliveries.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "common/log.h"

namespace baton::transfer::reads {

Status Deliveries::Open(uint32_t receives, uint32_t own, uint64_t sender, uint64_t key) {
  sender_ = sender;
  max_writers_ = (receives - own) / 3;
  spare_ = receives - own - max_writers_;
  deliveries_ = std::vector<Delivery>(receives);
  Result<Region> region = MakeRegion(
      endpoint_,
      {reinterpret_cast<std::byte*>(deliveries_.data()), receives * sizeof(Delivery)}, key);
  if (!region) return region.status();
  delivery_region_ = *std::move(region);
  reads_ = std::vector<Read>(std::clamp<size_t>(endpoint_.info().tx_attr->size / 2, 16, 512));
  most_reads_ = static_cast<uint32_t>(reads_.size() / 2);
  if (endpoint_.app_keys()) {
    const size_t bytes = reads_.size() * kLandingBytes;  // touched as far as it is used
    landings_ = std::make_unique_for_overwrite<std::byte[]>(bytes);
    region = MakeRegion(endpoint_, {landings_.get(), bytes}, key + 1);
    if (!region) return region.status();
    landing_region_ = *std::move(region);
  }
  for (Read& read : reads_) {
    read.operation = {.kind = Operation::Kind::kRead, .owner = &read};
    if (landings_) read.landing = landings_.get() + (&read - reads_.data()) * kLandingBytes;
    free_reads_.push_back(&read);
  }
  todo_.reserve(receives);
  doing_.reserve(receives);
  for (Delivery& delivery : deliveries_) {
    delivery.receive = {.kind = Operation::Kind::kReceive, .owner = &delivery};
    delivery.lease = {.kind = Operation::Kind::kLease, .owner = &delivery};
    delivery.send = {.kind = Operation::Kind::kAnswer, .owner = &delivery};
    if (!Step(delivery, {}))
      return Error(Code::kUnavailable, "libfabric {}: cannot post {} receives",
                   endpoint_.choice.name, receives);
  }
  return Status::Ok();
}

void Deliveries::RevokeRegion(uint32_t region) {
  std::erase_if(keys_, [&](const auto& key) { return key.second == region; });
}

bool Deliveries::Reads(uint64_t key) const {
  return std::any_of(reads_.begin(), reads_.end(),
                     [&](const Read& read) { return read.delivery && read.key == key; });
}

bool Deliveries::ReadsInto(uint32_t region) const {
  return std::any_of(reads_.begin(), reads_.end(),
                     [&](const Read& read) { return read.delivery && read.region == region; });
}

void Deliveries::CutReaders(uint64_t key) {
  for (Read& read : reads_) {
    if (!read.delivery || read.key != key || !read.writer) continue;
    const uint64_t handle = read.writer->handle;
    const std::string address = read.writer->address;
    orders_.Lose(handle);
    Forget(address);
    endpoint_.Cut(address);  // whoever else uses it: the connection must go
  }
}

uint32_t Deliveries::RegionOf(uint64_t key) const {
  const auto found = keys_.find(key);
  return found == keys_.end() ? kNone : found->second;
}

void Deliveries::Detach(uint32_t region) {
  for (Read& read : reads_) {
    if (read.region != region) continue;
    read.region = kNone;
    read.key = 0;
  }
}

void Deliveries::Forget(const std::string& address) {
  for (auto one = writers_.begin(); one != writers_.end();) {
    const uint64_t sender = one->first;
    const bool leaves = one->second->address == address;
    ++one;
    if (leaves) Drop(sender);
  }
}

// What is still under way of it ends unheard.
void Deliveries::Drop(uint64_t sender) {
  const auto found = writers_.find(sender);
  std::unique_ptr<Writer> dropped = std::move(found->second);
  writers_.erase(found);
  Writer& writer = *dropped;
  for (Delivery& delivery : deliveries_)
    if (delivery.writer == &writer) delivery.writer = nullptr;
  writer.left = true;
  if (lands_apart() && writer.reading) {
    leaving_.push_back(std::move(dropped));
    return;
  }
  for (Delivery& delivery : deliveries_)
    if (delivery.leaser == &writer) delivery.leaser = nullptr;
  for (Read& read : reads_)
    if (read.writer == &writer) read.writer = nullptr;
  Release(writer);
}

void Deliveries::Release(Writer& writer) {
  spare_ += writer.window - 1;
  endpoint_.Remove(writer.handle);
}

void Deliveries::Begin(Writer& writer) {
  ++writer.reading;
  ++reading_;
}

// A read from this writer ended; null: it was forgotten meanwhile.
void Deliveries::End(Writer* writer) {
  --reading_;
  if (!writer || --writer->reading || !writer->left) return;
  Release(*writer);
  std::erase_if(leaving_, [&](const auto& one) { return one.get() == writer; });
}

// Room in the table: whoever is idle for longest goes. It may come again at any time.
bool Deliveries::MakeRoom() {
  if (writers_.size() + leaving_.size() < max_writers_) return true;
  auto oldest = writers_.end();
  for (auto one = writers_.begin(); one != writers_.end(); ++one)
    if (one->second->orders == 0 &&
        (oldest == writers_.end() || one->second->last < oldest->second->last))
      oldest = one;
  if (oldest == writers_.end()) return false;
  Drop(oldest->first);
  return true;
}

Deliveries::Writer* Deliveries::FindWriter(const Order& order) {
  const std::string_view address(order.address, order.address_bytes);
  const auto found = writers_.find(order.header.sender);
  if (found != writers_.end() && found->second->address == address) return found->second.get();
  if (found != writers_.end()) Drop(order.header.sender);
  if (!MakeRoom()) return nullptr;
  Result<uint64_t> handle = endpoint_.Insert(address);
  if (!handle) {
    if (MayWarn()) log::warn("{}", handle.status().message());
    return nullptr;
  }
  auto writer = std::make_unique<Writer>();
  writer->handle = *handle;
  writer->address = address;
  return (writers_[order.header.sender] = std::move(writer)).get();
}

// Of what peers send, so that their noise does not become a storm of logs.
bool Deliveries::MayWarn() {
  const TimePoint now = Now();
  if (now < next_warning_) return false;
  next_warning_ = now + 1s;
  return true;
}

void Deliveries::OnReceived(Operation& operation, size_t bytes) {
  Delivery& delivery = *static_cast<Delivery*>(operation.owner);
  const std::span message(reinterpret_cast<const std::byte*>(&delivery.order),
                          std::min(bytes, sizeof delivery.order));
  const Kind kind = KindOf(message);
  delivery.writer = nullptr;
  delivery.stage = Stage::kReposting;
  if (kind == Kind::kAnswer) {
    Answer answer;
    std::memcpy(&answer, message.data(), sizeof answer);
    orders_.OnAnswer(answer);
  } else if (kind == Kind::kOrder) {
    delivery.writer = FindWriter(delivery.order);
  } else if (MayWarn()) {
    log::warn("libfabric {}: a message of {} bytes is none of Baton's", endpoint_.choice.name, bytes);
  }
  if (delivery.writer) Start(*delivery.writer, delivery);
  todo_.push_back(&delivery);
}

// A repeated order is carried out once: while that lasts its copies are dropped, later they are answered.
void Deliveries::Start(Writer& writer, Delivery& delivery) {
  const Order& order = delivery.order;
  if (order.lease_value > writer.lease) {
    writer.lease = order.lease_value;
    writer.first = order.header.ticket;
    writer.answered = false;
  } else if (order.header.ticket == writer.first && !writer.answered) {
    delivery.writer = nullptr;
    return;
  }
  ++writer.orders;
  writer.last = ++uses_;
  delivery.next = delivery.pending = delivery.failed = 0;
  delivery.error = 0;
  delivery.stage = Stage::kReading;
  if (order.header.ticket != writer.first || !writer.answered) return;
  delivery.answer = writer.first_answer;
  delivery.stage = Stage::kAnswering;
}

void Deliveries::OnReceiveFailed(Operation& operation) {
  Delivery& delivery = *static_cast<Delivery*>(operation.owner);
  delivery.stage = Stage::kReposting;
  todo_.push_back(&delivery);
}

void Deliveries::Advance(const std::vector<Region>& regions) {
  if (todo_.empty()) return;
  doing_.swap(todo_);
  for (Delivery* const delivery : doing_)
    if (!Step(*delivery, regions)) todo_.push_back(delivery);
  doing_.clear();
}

// As far as it gets without waiting. False when something could not be posted yet.
bool Deliveries::Step(Delivery& delivery, const std::vector<Region>& regions) {
  if (delivery.stage == Stage::kReading) {
    if (!PostReads(delivery, regions)) return false;
    if (delivery.pending) return true;  // OnRead goes on
    delivery.stage = Stage::kChecking;
  }
  if (delivery.stage == Stage::kChecking) {
    if (!delivery.writer) {
      Finish(delivery);
    } else {
      const Order& order = delivery.order;
      const ssize_t result =
          fi_read(endpoint_.ep.get(), &delivery.lease_seen, sizeof delivery.lease_seen,
                  delivery_region_.desc, delivery.writer->handle, order.lease, order.lease_key,
                  &delivery.lease);
      if (result == -FI_EAGAIN) return false;
      delivery.stage = Stage::kWaiting;
      if (result == 0) {
        delivery.leaser = delivery.writer;
        Begin(*delivery.writer);
        return true;  // OnLease goes on
      }
      Abandon(delivery);
    }
  }
  if (delivery.stage == Stage::kAnswering) {
    if (!delivery.writer) {
      Finish(delivery);
    } else {
      const ssize_t result =
          fi_send(endpoint_.ep.get(), &delivery.answer, sizeof delivery.answer,
                  delivery_region_.desc, delivery.writer->handle, &delivery.send);
      if (result == -FI_EAGAIN) return false;
      delivery.stage = Stage::kWaiting;
      if (result == 0) return true;  // OnAnswered goes on
      Finish(delivery);
    }
  }
  if (delivery.stage == Stage::kReposting) {
    const ssize_t result = fi_recv(endpoint_.ep.get(), &delivery.order, sizeof delivery.order,
                                   delivery_region_.desc, FI_ADDR_UNSPEC, &delivery.receive);
    if (result != 0) return false;
    delivery.stage = Stage::kReceiving;
  }
  return true;
}

bool Deliveries::PostReads(Delivery& delivery, const std::vector<Region>& regions) {
  for (; delivery.next < delivery.order.header.pieces; ++delivery.next) {
    const int error = delivery.writer ? PostRead(delivery, regions) : ECANCELED;
    if (error == EAGAIN) return false;
    if (error) Refuse(delivery, delivery.next, error);
  }
  return true;
}

// 0, EAGAIN, or why this piece is refused. The order comes from a peer: nothing in it is trusted.
int Deliveries::PostRead(Delivery& delivery, const std::vector<Region>& regions) {
  const Piece& piece = delivery.order.pieces[delivery.next];
  const auto key = keys_.find(piece.target_key);
  if (key == keys_.end()) return EKEYREVOKED;
  const Region& region = regions[key->second];
  const uint64_t size = region.memory.size_bytes;
  if (piece.bytes > size || piece.target > size - piece.bytes) return ERANGE;
  if (lands_apart() && piece.bytes > kLandingBytes) return EMSGSIZE;
  // One writer whose reads hang leaves room for the others.
  if (free_reads_.empty() || delivery.writer->reading >= most_reads_) return EAGAIN;
  Read& read = *free_reads_.back();
  read.place = region.memory.data + piece.target;
  const ssize_t result = fi_read(endpoint_.ep.get(), lands_apart() ? read.landing : read.place, piece.bytes,
                                 lands_apart() ? landing_region_.desc : region.desc,
                                 delivery.writer->handle, piece.source, piece.source_key, &read.operation);
  if (result != 0) return static_cast<int>(-result);
  free_reads_.pop_back();
  read.delivery = &delivery;
  read.writer = delivery.writer;
  read.piece = delivery.next;
  read.region = key->second;
  read.key = piece.target_key;
  Begin(*delivery.writer);
  ++delivery.pending;
  return 0;
}

void Deliveries::Refuse(Delivery& delivery, uint32_t piece, int error) {
  delivery.failed |= 1u << piece;
  delivery.error = error;
}

void Deliveries::OnRead(Operation& operation, bool failed) {
  Read& read = *static_cast<Read*>(operation.owner);
  Delivery& delivery = *read.delivery;
  if (failed)
    Refuse(delivery, read.piece, EIO);
  else if (lands_apart() && !Land(read))
    Refuse(delivery, read.piece, EKEYREVOKED);
  End(read.writer);
  read.delivery = nullptr;
  read.writer = nullptr;
  free_reads_.push_back(&read);
  // While pieces are still to be posted the delivery is on the list already.
  if (--delivery.pending == 0 && delivery.next == delivery.order.header.pieces)
    todo_.push_back(&delivery);
}

// Takes the bytes to their place, unless that was taken back while they came.
bool Deliveries::Land(const Read& read) {
  if (!keys_.contains(read.key)) return false;
  std::memcpy(read.place, read.landing, read.delivery->order.pieces[read.piece].bytes);
  return true;
}

void Deliveries::OnLease(Operation& operation, bool failed) {
  Delivery& delivery = *static_cast<Delivery*>(operation.owner);
  End(std::exchange(delivery.leaser, nullptr));
  // The writer took its memory back while we read: what came may be anything. Report nothing.
  if (failed || !delivery.writer || delivery.lease_seen != delivery.order.lease_value) {
    Abandon(delivery);
  } else {
    Report(delivery);
    delivery.answer = {.header = {.kind = Kind::kAnswer,
                                  .sender = sender_,
                                  .ticket = delivery.order.header.ticket},
                       .failed = delivery.failed,
                       .error = delivery.error,
                       .window = Window(*delivery.writer)};
    if (delivery.answer.header.ticket == delivery.writer->first) {
      delivery.writer->answered = true;
      delivery.writer->first_answer = delivery.answer;
    }
    delivery.stage = Stage::kAnswering;
  }
  todo_.push_back(&delivery);
}

void Deliveries::Report(const Delivery& delivery) {
  for (uint32_t i = 0; i < delivery.order.header.pieces; ++i) {
    if (delivery.failed >> i & 1) continue;
    Completion& arrived = ready_.emplace_back();
    arrived.kind = Completion::Kind::kArrived;
    arrived.imm = delivery.order.pieces[i].imm;
    arrived.bytes = delivery.order.pieces[i].bytes;
  }
}

// Doubles while buffers are left that are nobody's.
uint32_t Deliveries::Window(Writer& writer) {
  const uint32_t more = std::min({writer.window, kMaxWindow - writer.window, spare_});
  writer.window += more;
  spare_ -= more;
  return writer.window;
}

void Deliveries::OnAnswered(Operation& operation) {
  Delivery& delivery = *static_cast<Delivery*>(operation.owner);
  Finish(delivery);
  todo_.push_back(&delivery);
}

// Without an answer: if the writer repeats it, it is carried out anew.
void Deliveries::Abandon(Delivery& delivery) {
  if (delivery.writer && delivery.order.header.ticket == delivery.writer->first) delivery.writer->lease = 0;
  Finish(delivery);
}

void Deliveries::Finish(Delivery& delivery) {
  if (delivery.writer) --delivery.writer->orders;
  delivery.writer = nullptr;
  delivery.stage = Stage::kReposting;
}

}  // namespace baton::transfer::reads
