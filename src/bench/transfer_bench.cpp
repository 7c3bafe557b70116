// The writing end of `baton bench transfer`.
#include "bench/transfer_bench.h"

#include <algorithm>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <set>

#include "bench/transfer_blocks.h"
#include "bench/transfer_messages.h"
#include "common/bytes.h"

namespace baton::bench {
namespace {

using transfer::Engine;
using transfer::Event;
using transfer::Run;
using transfer::SendId;
using transfer::Slot;

constexpr size_t kMaxBlob = 1 << 20;

double Percentile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[std::min(values.size() - 1, static_cast<size_t>(share * static_cast<double>(values.size())))];
}

class Writer {
 public:
  Writer(TransferLink& link, const TransferBenchOptions& options) : link_(link), options_(options) {}

  Status Open() {
    Result<BenchPool> pool = BenchPool::Create(options_.total_mib << 20, options_.shared_memory, options_.local_device);
    if (!pool.ok()) return pool.status();
    pool_.emplace(*std::move(pool));
    transfer::Options engine;
    engine.provider = options_.provider;
    engine.fabric = options_.fabric;
    engine.write_mode = options_.write_mode;
    engine.require_rdma = options_.require_rdma;
    engine.rails = options_.rails;
    engine.host = link_.LocalHost();
    engine.cuda_device = AnnouncedDevice(options_.provider, options_.local_device, options_.remote_device);
    const uint64_t smallest = *std::min_element(options_.block_kib.begin(), options_.block_kib.end());
    engine.max_queued_runs = std::max<uint32_t>(1 << 16, static_cast<uint32_t>((1 + kLoadsOfClass * options_.classes.size()) *
                                                                       (options_.total_mib * 1024 / smallest)) + 1);
    engine.max_sends = std::max(engine.max_sends, options_.queue_depth);
    auto opened = Engine::Open(engine, [this](const Event& event) { OnEvent(event); });
    if (!opened.ok()) return opened.status();
    engine_ = *std::move(opened);
    if (auto region = engine_->Register(pool_->span()); !region.ok()) return region.status();
    ByteWriter request;
    request.Put(TransferRequest::kOpen);
    request.Put(kTransferBenchVersion);
    request.Put(static_cast<uint8_t>(options_.provider));
    request.Put(static_cast<uint8_t>(options_.require_rdma));
    request.Put(static_cast<uint8_t>(options_.shared_memory));
    request.Put(uint64_t{pool_->span().size_bytes});
    request.PutString(engine_->Describe());
    request.PutString(options_.fabric);
    request.Put(options_.write_mode);
    request.Put(int32_t{options_.remote_device});
    request.Put(int32_t{options_.local_device});
    std::string reply;
    if (Status s = Call(request, reply); !s.ok()) return s;
    ByteReader reader(reply);
    reader.GetString(kMaxBlob);
    auto peer = engine_->Connect(reader.GetString(kMaxBlob), Now() + options_.timeout);
    if (!peer.ok()) return peer.status();
    peer_ = *peer;
    return Status::Ok();
  }

  const transfer::FabricReport& report() const { return engine_->report(); }

  // A row for each class.
  Result<std::vector<TransferBenchRow>> Measure(uint64_t block_kib) {
    const uint64_t block_bytes = block_kib << 10;
    const auto blocks = static_cast<uint32_t>((options_.total_mib << 20) / block_bytes);
    std::vector<TransferBenchRow> rows(options_.classes.size());
    const uint64_t pattern = block_kib * 7919 + 1;
    if (Status s = FillPattern(pool_->span(), pattern); !s.ok()) return s;
    ByteWriter clear;
    clear.Put(TransferRequest::kClear);
    std::string reply;
    if (Status s = Call(clear, reply); !s.ok()) return s;
    std::vector<std::vector<double>> seconds(rows.size());
    uint64_t wrong = 0;
    for (int round = -1; round < options_.rounds; ++round) {  // the first touches the pages
      const uint64_t order_seed = block_kib * 1000 + static_cast<uint64_t>(round + 1);
      Result<std::vector<Share>> shares = Round(MakeBlockOrder(blocks, options_.scattered, order_seed), block_bytes);
      if (!shares.ok()) return shares.status();
      for (size_t c = 0; c < rows.size(); ++c) {
        rows[c].blocks = (*shares)[c].blocks;
        if (round >= 0) seconds[c].push_back((*shares)[c].seconds);
      }
      Result<uint64_t> bad = Verify(block_bytes, blocks, order_seed, pattern);
      if (!bad.ok()) return bad.status();
      wrong += *bad;
    }
    for (size_t c = 0; c < rows.size(); ++c)
      if (Status s = Fill(rows[c], options_.classes[c], block_kib, blocks, seconds[c]); !s.ok()) return s;
    rows[0].wrong = wrong;  // of all: whose they are is not told
    if (Status s = MeasureCeiling(block_bytes, blocks, rows[0]); !s.ok()) return s;
    for (TransferBenchRow& row : rows) {
      row.ceiling = rows[0].ceiling;
      row.ceiling_gbps = rows[0].ceiling_gbps;
    }
    return rows;
  }

 private:
  // What one class moved in a round.
  struct Share {
    uint64_t blocks = 0;
    double seconds = 0;  // from the start of all to its own end
  };
  struct Ended {
    Status status;
    TimePoint at{};
  };
  // A transfer of all blocks that keeps the way busy.
  struct Load {
    transfer::Priority priority{};
    Slot slot;
    SendId send{};
    uint32_t writes = 0;
  };
  static constexpr size_t kLoadsOfClass = 2;

  // What the rounds took, and single blocks take.
  Status Fill(TransferBenchRow& row, transfer::Priority priority, uint64_t block_kib, uint32_t blocks,
              const std::vector<double>& seconds) {
    row.priority = priority;
    row.provider = report().provider;
    row.fabric = report().fabric;
    row.total_mib = options_.total_mib;
    row.block_kib = block_kib;
    const double moved = static_cast<double>(row.blocks * (block_kib << 10));
    row.milliseconds = Percentile(seconds, 0.5) * 1e3;
    row.gbps = moved / Percentile(seconds, 0.5) / 1e9;
    row.best_gbps = moved / Percentile(seconds, 0) / 1e9;
    return MeasureLatency(block_kib << 10, blocks, row);
  }

  // Sends a request; the reply's first string is its error.
  Status Call(const ByteWriter& request, std::string& reply) {
    Result<std::string> answer = link_.Call(request.bytes(), Now() + options_.timeout);
    if (!answer.ok()) return answer.status();
    reply = *std::move(answer);
    const std::string error = ByteReader(reply).GetString(kMaxBlob);
    return error.empty() ? Status::Ok() : Error(Code::kUnavailable, "the target: {}", error);
  }

  Result<std::vector<Slot>> Grant(uint32_t count) {
    ByteWriter request;
    request.Put(TransferRequest::kGrant);
    request.Put(count);
    request.Put(static_cast<uint32_t>(Milliseconds(options_.timeout)));
    std::string reply;
    if (Status s = Call(request, reply); !s.ok()) return s;
    ByteReader reader(reply);
    reader.GetString(kMaxBlob);
    std::vector<Slot> slots(std::min(reader.Get<uint32_t>(), kMaxGrant));
    for (Slot& slot : slots) {
      slot.index = reader.Get<uint32_t>();
      slot.generation = reader.Get<uint8_t>();
    }
    if (Status s = reader.Finish(); !s.ok()) return s;
    return slots;
  }

  Status Seal(const std::vector<Slot>& slots, const std::vector<uint32_t>& writes) {
    ByteWriter request;
    request.Put(TransferRequest::kSeal);
    request.Put(static_cast<uint32_t>(slots.size()));
    for (size_t i = 0; i < slots.size(); ++i) {
      request.Put(slots[i].index);
      request.Put(slots[i].generation);
      request.Put(writes[i]);
    }
    std::string reply;
    return Call(request, reply);
  }

  Result<SendId> Post(Slot slot, std::span<const Run> runs, transfer::Priority priority, uint32_t& writes) {
    auto send = engine_->Begin(peer_, slot, {0}, {0}, Now() + options_.timeout, priority);
    if (!send.ok()) return send.status();
    auto pushed = engine_->Push(*send, runs);
    engine_->Finish(*send);
    if (!pushed.ok()) return pushed.status();
    writes = *pushed;
    return *send;
  }

  static std::vector<Run> RunsOf(const BlockOrder& order, uint64_t block_bytes) {
    std::vector<Run> runs(order.from.size());
    for (size_t i = 0; i < runs.size(); ++i)
      runs[i] = {order.from[i] * block_bytes, order.to[i] * block_bytes, block_bytes};
    return runs;
  }

  // All blocks, in queue_depth transfers of each class.
  Result<std::vector<Share>> Round(const BlockOrder& order, uint64_t block_bytes) {
    const std::vector<Run> runs = RunsOf(order, block_bytes);
    const size_t classes = options_.classes.size();
    const auto depth = static_cast<uint32_t>(std::min<size_t>(options_.queue_depth * classes, runs.size()));
    Result<std::vector<Slot>> slots = Grant(depth);
    if (!slots.ok()) return slots.status();
    std::vector<uint32_t> writes(depth);
    std::vector<SendId> sends;
    std::vector<Share> shares(classes);
    const TimePoint start = Now();
    for (uint32_t i = 0; i < depth; ++i) {
      const size_t first = runs.size() * i / depth, end = runs.size() * (i + 1) / depth;
      Result<SendId> send =
          Post((*slots)[i], std::span(runs).subspan(first, end - first), options_.classes[i % classes], writes[i]);
      if (!send.ok()) return send.status();
      shares[i % classes].blocks += end - first;
      sends.push_back(*send);
    }
    for (uint32_t i = 0; i < depth; ++i) {
      const Ended ended = WaitFor(sends[i]);
      if (!ended.status.ok()) return ended.status;
      Share& share = shares[i % classes];
      share.seconds = std::max(share.seconds, Seconds(ended.at - start));
    }
    if (Status s = Seal(*slots, writes); !s.ok()) return s;
    return shares;
  }

  // One block at a time, while the other classes move all they can.
  Status MeasureLatency(uint64_t block_bytes, uint32_t blocks, TransferBenchRow& row) {
    const auto samples = static_cast<uint32_t>(options_.latency_samples);
    if (samples == 0) return Status::Ok();
    const BlockOrder order = MakeBlockOrder(blocks, options_.scattered, block_bytes);
    const std::vector<Run> runs = RunsOf(order, block_bytes);
    Result<std::vector<Slot>> slots = Grant(samples);
    if (!slots.ok()) return slots.status();
    std::vector<uint32_t> writes(samples);
    std::vector<double> microseconds;
    std::vector<Load> loads;
    for (uint32_t i = 0; i < samples; ++i) {
      if (Status s = KeepBusy(row.priority, runs, loads); !s.ok()) return s;
      const TimePoint start = Now();
      Result<SendId> send = Post((*slots)[i], {&runs[i % blocks], 1}, row.priority, writes[i]);
      if (!send.ok()) return send.status();
      const Ended ended = WaitFor(*send);
      if (!ended.status.ok()) return ended.status;
      microseconds.push_back(Seconds(ended.at - start) * 1e6);
    }
    for (const Load& load : loads)
      if (Status s = EndLoad(load); !s.ok()) return s;
    row.p50_us = Percentile(microseconds, 0.5);
    row.p99_us = Percentile(microseconds, 0.99);
    return Seal(*slots, writes);
  }

  Status KeepBusy(transfer::Priority measured, const std::vector<Run>& runs, std::vector<Load>& loads) {
    for (const transfer::Priority other : options_.classes) {
      if (other == measured) continue;
      size_t live = 0;
      for (size_t i = 0; i < loads.size();) {
        if (loads[i].priority != other || !HasEnded(loads[i].send)) {
          live += loads[i++].priority == other;
          continue;
        }
        if (Status s = EndLoad(loads[i]); !s.ok()) return s;
        loads.erase(loads.begin() + static_cast<ptrdiff_t>(i));
      }
      for (; live < kLoadsOfClass; ++live) {
        Result<std::vector<Slot>> slot = Grant(1);
        if (!slot.ok()) return slot.status();
        Load load{.priority = other, .slot = (*slot)[0]};
        Result<SendId> send = Post(load.slot, runs, other, load.writes);
        if (!send.ok()) return send.status();
        load.send = *send;
        loads.push_back(load);
      }
    }
    return Status::Ok();
  }
  Status EndLoad(const Load& load) {
    const Ended ended = WaitFor(load.send);
    return ended.status.ok() ? Seal({load.slot}, {load.writes}) : ended.status;
  }

  Status MeasureCeiling(uint64_t block_bytes, uint32_t blocks, TransferBenchRow& row) {
    const int from = options_.local_device, to = options_.remote_device;
    if (row.provider == "shm" && (from >= 0 || to >= 0)) {
      row.ceiling = fmt::format("one copy {} to {}", MemoryName(from), MemoryName(to));
      row.ceiling_gbps = MeasureDeviceCopy(from, to, blocks * block_bytes);
      return Status::Ok();
    }
    if (row.provider == "shm") {
      row.ceiling = "memcpy";
      row.ceiling_gbps = MeasureMemcpy(pool_->span(), MakeBlockOrder(blocks, options_.scattered, 1), block_bytes);
      return Status::Ok();
    }
    row.ceiling = "socket stream";
    MemorySpan memory = pool_->span();
    std::vector<std::byte> host;
    if (memory.device != DeviceKind::kHost) {
      host.resize(memory.size_bytes);
      memory = {host.data(), host.size()};
    }
    double best = 0;
    for (int round = 0; round < 3; ++round) {
      ByteWriter request;
      request.Put(TransferRequest::kStream);
      request.Put(uint64_t{memory.size_bytes});
      const TimePoint deadline = Now() + options_.timeout;
      const TimePoint start = Now();
      if (Status s = link_.Send(request.bytes(), deadline); !s.ok()) return s;
      if (Status s = link_.SendBytes(memory.data, memory.size_bytes, deadline); !s.ok()) return s;
      if (Result<std::string> reply = link_.Receive(deadline); !reply.ok()) return reply.status();
      best = std::max(best, static_cast<double>(memory.size_bytes) / Seconds(Now() - start) / 1e9);
    }
    row.ceiling_gbps = best;
    return Status::Ok();
  }

  Result<uint64_t> Verify(uint64_t block_bytes, uint32_t blocks, uint64_t order_seed, uint64_t pattern_seed) {
    ByteWriter request;
    request.Put(TransferRequest::kVerify);
    request.Put(block_bytes);
    request.Put(blocks);
    request.Put(static_cast<uint8_t>(options_.scattered));
    request.Put(order_seed);
    request.Put(pattern_seed);
    std::string reply;
    if (Status s = Call(request, reply); !s.ok()) return s;
    ByteReader reader(reply);
    reader.GetString(kMaxBlob);
    const auto wrong = reader.Get<uint64_t>();
    if (Status s = reader.Finish(); !s.ok()) return s;
    return wrong;
  }

  void OnEvent(const Event& event) {
    if (event.kind != Event::Kind::kSendDone && event.kind != Event::Kind::kSendFailed) return;
    const std::lock_guard lock(mutex_);
    ended_[event.send.value] = {event.status, Now()};
    changed_.notify_all();
  }

  bool HasEnded(SendId send) {
    const std::lock_guard lock(mutex_);
    return ended_.contains(send.value);
  }

  Ended WaitFor(SendId send) {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_until(lock, Now() + options_.timeout, [&] { return ended_.contains(send.value); }))
      return {Error(Code::kDeadlineExceeded, "a send did not end")};
    return std::move(ended_.extract(send.value).mapped());
  }

  TransferLink& link_;
  const TransferBenchOptions& options_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<uint64_t, Ended> ended_;
  std::optional<BenchPool> pool_;  // outlives the engine
  std::unique_ptr<Engine> engine_;
  transfer::PeerId peer_{};
};

Status CheckOptions(const TransferBenchOptions& o) {
  if (o.total_mib == 0 || o.total_mib > kMaxPoolBytes >> 20)
    return Error(Code::kInvalidArgument, "--total-mib must be between 1 and {}, got {}", kMaxPoolBytes >> 20, o.total_mib);
  if (o.block_kib.empty()) return Error(Code::kInvalidArgument, "--block-kib needs at least one size");
  for (const uint64_t kib : o.block_kib)
    if (kib == 0 || kib > o.total_mib * 1024)
      return Error(Code::kInvalidArgument, "--block-kib must be between 1 and the total of {} KiB, got {}", o.total_mib * 1024, kib);
  if (o.queue_depth == 0 || o.queue_depth > kMaxGrant)
    return Error(Code::kInvalidArgument, "--queue-depth must be between 1 and {}, got {}", kMaxGrant, o.queue_depth);
  if (o.classes.empty() || o.classes.size() > 3 || std::set(o.classes.begin(), o.classes.end()).size() != o.classes.size())
    return Error(Code::kInvalidArgument, "--class needs one to three different classes");
  if (o.rounds < 1 || o.rounds > 1000) return Error(Code::kInvalidArgument, "--rounds must be between 1 and 1000, got {}", o.rounds);
  if (o.latency_samples < 0 || o.latency_samples > static_cast<int>(kMaxGrant))
    return Error(Code::kInvalidArgument, "--latency-samples must be between 0 and {}, got {}", kMaxGrant, o.latency_samples);
  return Status::Ok();
}

}  // namespace

json::object TransferBenchRow::ToJson(const TransferBenchOptions& options) const {
  return {{"provider", provider},
          {"fabric", fabric},
          {"total_mib", total_mib},
          {"block_kib", block_kib},
          {"blocks", blocks},
          {"order", options.scattered ? "random" : "sequential"},
          {"memory", options.shared_memory ? "shared" : "private"},
          {"local_memory", MemoryName(options.local_device)},
          {"remote_memory", MemoryName(options.remote_device)},
          {"queue_depth", options.queue_depth},
          {"class", transfer::PriorityName(priority)},
          {"rounds", options.rounds},
          {"time_ms", milliseconds},
          {"gbps", gbps},
          {"best_gbps", best_gbps},
          {"p50_us", p50_us},
          {"p99_us", p99_us},
          {"wrong", wrong},
          {"ceiling", ceiling},
          {"ceiling_gbps", ceiling_gbps}};
}

Status RunTransferBench(TransferLink link, const TransferBenchOptions& options,
                        const std::function<void(const std::string&)>& on_open,
                        const std::function<void(const TransferBenchRow&)>& on_row) {
  if (Status s = CheckOptions(options); !s.ok()) return s;
  Writer writer(link, options);
  if (Status s = writer.Open(); !s.ok()) return s;
  on_open(writer.report().ToString());
  uint64_t wrong = 0;
  for (const uint64_t block_kib : options.block_kib) {
    const Result<std::vector<TransferBenchRow>> rows = writer.Measure(block_kib);
    if (!rows.ok()) return rows.status();
    for (const TransferBenchRow& row : *rows) {
      on_row(row);
      wrong += row.wrong;
    }
  }
  return wrong ? Error(Code::kDataCorrupt, "{} bytes came out wrong at the target", wrong) : Status::Ok();
}

}  // namespace baton::bench
