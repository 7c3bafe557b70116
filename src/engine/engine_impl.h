// The engine's insides: the thread, its inbox, and what a step touches. Private to engine/.
//
// All members below `thread` state belong to the engine thread, apart from those marked "any
// thread". One step: drain the inbox, plan, forward, sample, commit, emit (step.cpp).
#pragma once

#include <array>
#include <atomic>
#include <cstring>
#include <functional>
#include <future>
#include <memory>
#include <thread>
#include <type_traits>
#include <unordered_map>
#include <variant>
#include <vector>

#include "engine/batch.h"
#include "engine/engine.h"
#include "engine/mailbox.h"
#include "engine/sampler.h"
#include "engine/scheduler.h"
#include "engine/throughput.h"

namespace baton::engine {

using ReadyCallback = std::function<void(Result<KvReservation>)>;

struct SubmitMessage { std::unique_ptr<Sequence> sequence; };
struct ReserveMessage { std::unique_ptr<Sequence> sequence; ReadyCallback ready; };
struct StartMessage { RequestId id; FirstToken first; };
struct AbortMessage { RequestId id; };
struct AbortAllMessage {};
struct ReleaseReservationMessage { RequestId id; };
struct ReleaseHoldMessage { RequestId id; };
struct FlushMessage { std::promise<Status> done; };
struct BatchLogMessage { int interval; BatchLog::PdFields pd_fields; };
struct StopMessage {};
using Message = std::variant<SubmitMessage, ReserveMessage, StartMessage, AbortMessage, AbortAllMessage,
                             ReleaseReservationMessage, ReleaseHoldMessage, FlushMessage,
                             BatchLogMessage, StopMessage>;
using Inbox = Mailbox<Message>;

// Leases keep the inbox alive, so that they may outlive the engine.
struct KvReservation::State {
  std::shared_ptr<Inbox> inbox;
  RequestId id;
  std::vector<PageId> pages;
  int cached_tokens = 0;
  bool started = false;

  ~State() {
    if (!started) inbox->Post(ReleaseReservationMessage{id});
  }
};

class KvHold {
 public:
  KvHold(std::shared_ptr<Inbox> inbox, RequestId id) : inbox_(std::move(inbox)), id_(id) {}
  KvHold(const KvHold&) = delete;
  KvHold& operator=(const KvHold&) = delete;
  ~KvHold() { inbox_->Post(ReleaseHoldMessage{id_}); }

 private:
  std::shared_ptr<Inbox> inbox_;
  RequestId id_;
};

// A plain struct that one thread writes and any thread reads: each word is an atomic, so a reader
// may see fields of neighbouring steps, never a torn number.
template <typename T>
class Published {
 public:
  void Store(const T& value) {
    std::array<uint64_t, kWords> words{};
    std::memcpy(words.data(), &value, sizeof(T));
    for (size_t i = 0; i < kWords; ++i) words_[i].store(words[i], std::memory_order_relaxed);
  }
  T Load() const {
    std::array<uint64_t, kWords> words;
    for (size_t i = 0; i < kWords; ++i) words[i] = words_[i].load(std::memory_order_relaxed);
    T value;
    std::memcpy(static_cast<void*>(&value), words.data(), sizeof(T));
    return value;
  }

 private:
  static_assert(std::is_trivially_copyable_v<T>);
  static constexpr size_t kWords = (sizeof(T) + 7) / 8;
  std::array<std::atomic<uint64_t>, kWords> words_{};
};

struct Engine::Impl {
  Impl(std::unique_ptr<kernels::Ops> ops, std::unique_ptr<model::Model> model,
       std::unique_ptr<kernels::Buffer> kv_buffer, const kernels::KvPool& kv,
       const EngineOptions& options);

  // Any thread.
  Result<std::unique_ptr<Sequence>> MakeSequence(Request request) const;
  Status CheckRequest(const Request& request) const;
  Status EnterQueue();

  // Engine thread (engine.cpp).
  void Run();
  void DrainInbox();
  void Handle(SubmitMessage&& message);
  void Handle(ReserveMessage&& message);
  void Handle(StartMessage&& message);
  void Handle(AbortMessage&& message) { scheduler.Abort(message.id); }
  void Handle(AbortAllMessage&&) { scheduler.AbortAll(); }
  void Handle(ReleaseReservationMessage&& message) { scheduler.ReleaseReservation(message.id); }
  void Handle(ReleaseHoldMessage&& message) { scheduler.ReleaseHold(message.id); }
  void Handle(FlushMessage&& message) { message.done.set_value(scheduler.FlushCache()); }
  void Handle(BatchLogMessage&& message) {
    batch_log.Configure(message.interval, std::move(message.pd_fields));
  }
  void Handle(StopMessage&&) { stopping = true; }
  void DeliverNotices();
  void Sleep();
  void Shutdown();
  void PublishStats();

  // Engine thread (step.cpp).
  void Step(const StepPlan& plan);
  void ReportCachedKv(const StepPlan& plan);
  void ReportLayer(int layer);
  void FinishItem(const PlanItem& item, std::span<const float> rows);
  void CollectPromptLogprobs(Sequence& sequence, const PlanItem& item, std::span<const float> rows);
  Result<int32_t> SampleNext(const Sequence& sequence, std::span<const float> logits);
  void Emit(Sequence& sequence, const Output& output);
  void EmitEnd(std::unique_ptr<Sequence> sequence, const Output& output);
  Output MakeOutput(const Sequence& sequence) const;

  const EngineOptions options;                 // any thread
  const std::unique_ptr<kernels::Ops> ops;     // outlives the model and the buffer
  const std::unique_ptr<model::Model> model;
  const std::unique_ptr<kernels::Buffer> kv_buffer;
  const kernels::KvPool kv;                    // any thread
  const int max_prompt_tokens;                 // any thread
  const std::shared_ptr<Inbox> inbox;          // any thread

  std::atomic<uint64_t> next_id{1};            // any thread
  std::atomic<int> posted_requests{0};         // any thread: in the inbox, not drained yet
  std::atomic<int> waiting_requests{0};        // any thread: in the scheduler's queue
  std::atomic<bool> idle{true};                // any thread
  std::atomic<Clock::rep> progress{0};         // any thread
  Published<EngineStats> stats;                // any thread

  std::thread thread;
  bool stopping = false;
  Scheduler scheduler;
  Batch batch;
  Sampler sampler;
  std::unordered_map<RequestId, ReadyCallback> ready_callbacks;
  const StepPlan* current_plan = nullptr;      // for ReportLayer
  model::LayerDone layer_done;
  TokenLogprob logprob;                        // of the token in hand
  uint64_t steps = 0;
  RateMeter prefill_rate;
  RateMeter decode_rate;
  BatchLog batch_log;
};

}  // namespace baton::engine
