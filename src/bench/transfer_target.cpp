// The receiving end of `baton bench transfer`.
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>

#include "bench/transfer_bench.h"
#include "bench/transfer_blocks.h"
#include "bench/transfer_messages.h"
#include "common/bytes.h"

namespace baton::bench {
namespace {

using transfer::Engine;
using transfer::Event;
using transfer::Slot;

constexpr size_t kMaxBlob = 1 << 20;

class Target {
 public:
  Target(TransferLink& link, Duration timeout, std::vector<std::string> rails)
      : link_(link), timeout_(timeout), rails_(std::move(rails)) {}

  Result<std::string> Handle(std::string_view request) {
    ByteReader reader(request);
    ByteWriter reply;
    switch (reader.Get<TransferRequest>()) {
      case TransferRequest::kOpen: Answer(reply, Open(reader), [&] {
          reply.PutString(blob_);
          reply.PutString(engine_->report().ToString());
        });
        break;
      case TransferRequest::kGrant: {
        std::vector<Slot> slots;
        Answer(reply, Grant(reader, slots), [&] {
          reply.Put(static_cast<uint32_t>(slots.size()));
          for (const Slot slot : slots) {
            reply.Put(slot.index);
            reply.Put(slot.generation);
          }
        });
        break;
      }
      case TransferRequest::kSeal: Answer(reply, Seal(reader), [] {}); break;
      case TransferRequest::kClear: Answer(reply, Clear(), [] {}); break;
      case TransferRequest::kVerify: {
        uint64_t wrong = 0;
        Answer(reply, Verify(reader, wrong), [&] { reply.Put(wrong); });
        break;
      }
      case TransferRequest::kStream: {
        const auto bytes = reader.Get<uint64_t>();
        if (!pool_ || bytes > pool_->span().size_bytes)
          return Error(Code::kDataCorrupt, "bench: a stream of {} bytes is longer than the pool", bytes);
        std::byte* to = pool_->span().data;
        if (pool_->span().device != DeviceKind::kHost) {
          stream_room_.resize(bytes);
          to = stream_room_.data();
        }
        if (Status s = link_.ReceiveBytes(to, bytes, Now() + timeout_); !s.ok()) return s;
        Answer(reply, Status::Ok(), [] {});
        break;
      }
      default: return Error(Code::kDataCorrupt, "bench: an unknown request; are both ends of one version?");
    }
    return std::move(reply).bytes();
  }

 private:
  template <typename Rest>
  static void Answer(ByteWriter& reply, const Status& status, Rest rest) {
    reply.PutString(status.ok() ? "" : status.message());
    if (status.ok()) rest();
  }

  Status Open(ByteReader& reader) {
    if (const auto version = reader.Get<uint32_t>(); version != kTransferBenchVersion)
      return Error(Code::kUnsupported, "the target speaks bench version {}, the writer {}", kTransferBenchVersion, version);
    transfer::Options options;
    const auto provider = reader.Get<uint8_t>();
    if (provider > static_cast<uint8_t>(transfer::ProviderKind::kNixl))
      return Error(Code::kInvalidArgument, "unknown provider {}", provider);
    options.provider = static_cast<transfer::ProviderKind>(provider);
    options.require_rdma = reader.Get<uint8_t>() != 0;
    const bool shared = reader.Get<uint8_t>() != 0;
    const auto bytes = reader.Get<uint64_t>();
    const std::string peer_blob = reader.GetString(kMaxBlob);
    options.fabric = reader.GetString(64);
    const auto write_mode = reader.Get<uint8_t>();
    if (write_mode > static_cast<uint8_t>(transfer::WriteMode::kRead))
      return Error(Code::kInvalidArgument, "unknown write mode {}", write_mode);
    options.write_mode = static_cast<transfer::WriteMode>(write_mode);
    const auto device = reader.Get<int32_t>(), writers_device = reader.Get<int32_t>();
    if (Status s = reader.Finish(); !s.ok()) return s;
    if (bytes == 0 || bytes > kMaxPoolBytes) return Error(Code::kInvalidArgument, "a pool of {} bytes", bytes);
    options.host = link_.LocalHost();
    options.rails = rails_;
    options.self_test = false;
    options.cuda_device = AnnouncedDevice(options.provider, device, writers_device);
    Result<BenchPool> pool = BenchPool::Create(bytes, shared, device);
    if (!pool.ok()) return pool.status();
    engine_.reset();
    pool_.emplace(*std::move(pool));
    auto engine = Engine::Open(options, [this](const Event& event) { OnEvent(event); });
    if (!engine.ok()) return engine.status();
    engine_ = *std::move(engine);
    if (auto region = engine_->Register(pool_->span()); !region.ok()) return region.status();
    blob_ = engine_->Describe();
    auto peer = engine_->Connect(peer_blob, Now() + timeout_);
    if (!peer.ok()) return peer.status();
    peer_ = *peer;
    return Status::Ok();
  }

  Status Grant(ByteReader& reader, std::vector<Slot>& slots) {
    const auto count = reader.Get<uint32_t>();
    const auto deadline = Now() + std::chrono::milliseconds(reader.Get<uint32_t>());
    if (Status s = reader.Finish(); !s.ok()) return s;
    if (!engine_ || count > kMaxGrant) return Error(Code::kInvalidArgument, "cannot grant {} slots", count);
    for (uint32_t i = 0; i < count; ++i) {
      auto slot = engine_->Expect(peer_, deadline);
      if (!slot.ok()) return slot.status();
      slots.push_back(*slot);
    }
    return Status::Ok();
  }

  Status Seal(ByteReader& reader) {
    const auto count = reader.Get<uint32_t>();
    if (!engine_ || count > kMaxGrant) return Error(Code::kInvalidArgument, "cannot seal {} slots", count);
    std::vector<Slot> slots(count);
    for (Slot& slot : slots) {
      slot.index = reader.Get<uint32_t>();
      slot.generation = reader.Get<uint8_t>();
      engine_->Seal(slot, reader.Get<uint32_t>());
    }
    if (Status s = reader.Finish(); !s.ok()) return s;
    Status result;
    const TimePoint deadline = Now() + timeout_;
    for (const Slot slot : slots) {
      if (Status s = WaitFor(slot, deadline); !s.ok()) result = s;
      engine_->Release(slot);
    }
    return result;
  }

  Status Clear() {
    if (!pool_) return Error(Code::kInvalidArgument, "nothing is open");
    return ClearMemory(pool_->span());
  }

  Status Verify(ByteReader& reader, uint64_t& wrong) {
    const auto block_bytes = reader.Get<uint64_t>();
    const auto blocks = reader.Get<uint32_t>();
    const bool scattered = reader.Get<uint8_t>() != 0;
    const auto order_seed = reader.Get<uint64_t>(), pattern_seed = reader.Get<uint64_t>();
    if (Status s = reader.Finish(); !s.ok()) return s;
    if (!pool_ || block_bytes == 0 || blocks > pool_->span().size_bytes / block_bytes)
      return Error(Code::kInvalidArgument, "{} blocks of {} bytes do not fit the pool", blocks, block_bytes);
    const Result<uint64_t> counted =
        CountWrongBytes(pool_->span(), MakeBlockOrder(blocks, scattered, order_seed), block_bytes, pattern_seed);
    if (counted.ok()) wrong = *counted;
    return counted.status();
  }

  void OnEvent(const Event& event) {
    const bool done = event.kind == Event::Kind::kReceiveDone;
    if (!done && event.kind != Event::Kind::kReceiveFailed) return;
    const std::lock_guard lock(mutex_);
    ended_[{event.slot.index, event.slot.generation}] = event.status;
    changed_.notify_all();
  }

  Status WaitFor(Slot slot, TimePoint deadline) {
    std::unique_lock lock(mutex_);
    const std::pair key(slot.index, slot.generation);
    if (!changed_.wait_until(lock, deadline, [&] { return ended_.contains(key); }))
      return Error(Code::kDeadlineExceeded, "slot {} did not end", slot.index);
    return std::move(ended_.extract(key).mapped());
  }

  TransferLink& link_;
  const Duration timeout_;
  const std::vector<std::string> rails_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::pair<uint32_t, uint8_t>, Status> ended_;
  std::optional<BenchPool> pool_;  // outlives the engine
  std::vector<std::byte> stream_room_;  // kept: the first stream pays for its pages, the best of several counts
  std::unique_ptr<Engine> engine_;
  std::string blob_;
  transfer::PeerId peer_{};
};

}  // namespace

Status ServeTransferBench(TransferLink link, Duration timeout, std::vector<std::string> rails) {
  Target target(link, timeout, std::move(rails));
  for (;;) {
    const Result<std::string> request = link.Receive(Now() + timeout);
    if (!request.ok()) return request.status().code() == Code::kUnavailable ? Status::Ok() : request.status();
    const Result<std::string> reply = target.Handle(*request);
    if (!reply.ok()) return reply.status();
    if (Status s = link.Send(*reply, Now() + timeout); !s.ok()) return s;
  }
}

}  // namespace baton::bench
