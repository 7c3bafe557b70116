// The reading half of the read fabric: takes orders, fetches their bytes, answers.
//
// An order stays in the receive buffer in which it came until it is answered, so the buffers bound
// all work here. They are shared out: one to each writer that there may be, answers to our own
// orders apart, and the rest as windows of several orders to whoever writes first.
//
// Where software writes what is read (tcp) the bytes land apart, and are copied to their place when
// all are there and the key still holds. A read from a peer that stands still can so be left alone,
// which it must: libfabric 1.17 frees a half received answer twice when its connection is closed. The
// address behind it is removed when the read has ended.
//
// Fixed size, no allocation per order. Owner thread only.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "transfer/libfabric/read_orders.h"

namespace baton::transfer::reads {

class Deliveries {
 public:
  Deliveries(Endpoint& endpoint, Orders& orders, std::vector<Completion>& ready)
      : endpoint_(endpoint), orders_(orders), ready_(ready) {}

  // `receives` buffers, of which `own` are for answers to our orders. `key` is used by nothing else.
  Status Open(uint32_t receives, uint32_t own, uint64_t sender, uint64_t key);
  uint32_t max_writers() const { return max_writers_; }
  // Bytes land apart: nothing under way can change memory whose key was revoked.
  bool lands_apart() const { return landings_ != nullptr; }
  static constexpr uint64_t kLandingBytes = (256 << 10) + 4096;  // the longest read then: a stripe and a header
  // Reads under way, leases too.
  uint32_t reading() const { return reading_; }
  // Where they go, for an endpoint that outlives this.
  std::unique_ptr<std::byte[]> TakeLandings() { return std::move(landings_); }

  void Expose(uint64_t key, uint32_t region) { keys_[key] = region; }
  void Revoke(uint64_t key) { keys_.erase(key); }
  void RevokeRegion(uint32_t region);
  // Reads into memory that `key` opened; of any key into `region`.
  bool Reads(uint64_t key) const;
  bool ReadsInto(uint32_t region) const;
  // Ends the ways to the writers of those reads, so that the reads end.
  void CutReaders(uint64_t key);
  // The hardware can no longer reach the region: reads into it may end when they like.
  void Detach(uint32_t region);
  // Of a key that was exposed and not revoked; kNone: of none.
  static constexpr uint32_t kNone = ~0u;
  uint32_t RegionOf(uint64_t key) const;

  // Posts what could not be posted before.
  void Advance(const std::vector<Region>& regions);
  bool idle() const { return todo_.empty(); }

  void OnReceived(Operation& operation, size_t bytes);
  void OnRead(Operation& operation, bool failed);
  void OnLease(Operation& operation, bool failed);
  void OnAnswered(Operation& operation);
  void OnReceiveFailed(Operation& operation);
  // The address is nobody's any more: forget who wrote from it.
  void Forget(const std::string& address);

 private:
  enum class Stage : uint8_t { kReceiving, kReading, kChecking, kWaiting, kAnswering, kReposting };
  struct Writer {
    uint64_t handle = 0;
    std::string address;
    uint32_t window = 1, orders = 0, reading = 0;
    bool left = false;  // forgotten, goes with its last read
    uint64_t last = 0;  // order of use
    // Of its newest lease: the first order, which it repeats until it has an answer.
    uint64_t lease = 0, first = 0;
    bool answered = false;
    Answer first_answer{};
  };
  struct Delivery {
    Operation receive, lease, send;
    Stage stage = Stage::kReposting;
    Writer* writer = nullptr;  // nullptr when it was forgotten
    Writer* leaser = nullptr;  // whose lease is being read
    uint32_t next = 0, pending = 0, failed = 0;
    int error = 0;
    uint64_t lease_seen = 0;
    Order order;
    Answer answer;
  };
  struct Read {
    Operation operation;
    Delivery* delivery = nullptr;
    Writer* writer = nullptr;
    uint32_t piece = 0, region = 0;
    uint64_t key = 0;
    std::byte* landing = nullptr;  // its own, where bytes land apart
    std::byte* place = nullptr;    // where they go then
  };

  Writer* FindWriter(const Order& order);
  bool MayWarn();
  bool MakeRoom();
  void Start(Writer& writer, Delivery& delivery);
  void Drop(uint64_t sender);
  void Begin(Writer& writer);
  void End(Writer* writer);
  void Release(Writer& writer);
  bool Land(const Read& read);
  bool Step(Delivery& delivery, const std::vector<Region>& regions);
  bool PostReads(Delivery& delivery, const std::vector<Region>& regions);
  int PostRead(Delivery& delivery, const std::vector<Region>& regions);
  void Refuse(Delivery& delivery, uint32_t piece, int error);
  void Finish(Delivery& delivery);
  void Abandon(Delivery& delivery);
  void Report(const Delivery& delivery);
  uint32_t Window(Writer& writer);

  static constexpr uint32_t kMaxWindow = 16;

  Endpoint& endpoint_;
  Orders& orders_;
  std::vector<Completion>& ready_;
  std::vector<Delivery> deliveries_;
  Region delivery_region_;
  std::vector<Read> reads_;
  std::vector<Read*> free_reads_;
  std::unique_ptr<std::byte[]> landings_;
  Region landing_region_;
  std::vector<Delivery*> todo_, doing_;
  std::unordered_map<uint64_t, uint32_t> keys_;  // to our regions
  std::unordered_map<uint64_t, std::unique_ptr<Writer>> writers_;  // by sender
  std::vector<std::unique_ptr<Writer>> leaving_;
  uint32_t max_writers_ = 0, spare_ = 0, most_reads_ = 0, reading_ = 0;
  uint64_t sender_ = 0, uses_ = 0;
  TimePoint next_warning_{};
};

}  // namespace baton::transfer::reads
