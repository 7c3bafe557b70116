// The door and the loop; what a step does is in step.cpp.
#include "engine/engine.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "common/log.h"
#include "engine/engine_impl.h"

namespace baton::engine {
namespace {

constexpr auto kFlushTimeout = 5s;

int RoundUp(int value, int unit) { return (value + unit - 1) / unit * unit; }

Status CheckOptions(const EngineOptions& o, const model::ModelConfig& config) {
  if (o.page_tokens < 1 || o.page_tokens > 1024) {
    return Error(Code::kInvalidArgument, "page_tokens must be between 1 and 1024, got {}", o.page_tokens);
  }
  if (o.max_running < 1 || o.max_queued < 1 || o.chunk_tokens < 1 || o.reserved_decode_tokens < 0) {
    return Error(Code::kInvalidArgument,
                 "max_running ({}), max_queued ({}) and chunk_tokens ({}) must be at least 1, "
                 "reserved_decode_tokens ({}) at least 0",
                 o.max_running, o.max_queued, o.chunk_tokens, o.reserved_decode_tokens);
  }
  if (o.max_logit_rows < o.max_running) {
    return Error(Code::kInvalidArgument, "max_logit_rows ({}) must be at least max_running ({})",
                 o.max_logit_rows, o.max_running);
  }
  if (o.context_length < 2 || o.context_length > config.context_length) {
    return Error(Code::kInvalidArgument, "context_length must be between 2 and the model's {}, got {}",
                 config.context_length, o.context_length);
  }
  return Status::Ok();
}

// Pages of the pool: as asked, else what the memory holds, but no more than can ever be in use.
int PoolPages(const EngineOptions& o, const kernels::KvLayout& layout) {
  if (o.max_total_tokens > 0) return o.max_total_tokens / o.page_tokens;
  const int64_t by_memory = static_cast<int64_t>(o.kv_memory_bytes / layout.PageBytes());
  const int64_t by_use =
      int64_t{o.max_running} * (RoundUp(o.context_length, o.page_tokens) / o.page_tokens);
  return static_cast<int>(
      std::min({by_memory, by_use, int64_t{std::numeric_limits<int>::max() / o.page_tokens}}));
}

SchedulerOptions SchedulerOptionsFrom(const EngineOptions& o, int pages) {
  return {.pages = pages,
          .page_tokens = o.page_tokens,
          .max_running = o.max_running,
          .step_tokens = MaxStepTokens(o),
          .max_logit_rows = o.max_logit_rows,
          .reserved_decode_tokens = o.reserved_decode_tokens,
          .prefix_cache = o.prefix_cache};
}

}  // namespace

int MaxStepTokens(const EngineOptions& o) {
  return std::max(RoundUp(o.chunk_tokens, o.page_tokens), o.max_running + o.page_tokens);
}

// ---------------------------------------------------------------------------------- making

Engine::Impl::Impl(std::unique_ptr<kernels::Ops> ops_in, std::unique_ptr<model::Model> model_in,
                   std::unique_ptr<kernels::Buffer> kv_buffer_in, const kernels::KvPool& kv_in,
                   const EngineOptions& options_in)
    : options(options_in),
      ops(std::move(ops_in)),
      model(std::move(model_in)),
      kv_buffer(std::move(kv_buffer_in)),
      kv(kv_in),
      max_prompt_tokens(std::min(options_in.context_length - 1, kv_in.pages * options_in.page_tokens)),
      inbox(std::make_shared<Inbox>()),
      scheduler(SchedulerOptionsFrom(options_in, kv_in.pages)),
      batch(MaxStepTokens(options_in), options_in.max_running, options_in.max_logit_rows),
      sampler(model->config().vocab),
      layer_done([this](int layer) { ReportLayer(layer); }) {
  PublishStats();
}

Engine::Engine() = default;

Result<std::unique_ptr<Engine>> Engine::Create(std::unique_ptr<kernels::Ops> ops,
                                               std::unique_ptr<model::Model> model,
                                               const EngineOptions& options_in) {
  EngineOptions options = options_in;
  if (options.context_length == 0) options.context_length = model->config().context_length;
  if (Status s = CheckOptions(options, model->config()); !s.ok()) return s;
  kernels::KvPool kv{.layout = model->MakeKvLayout(options.page_tokens, options.kv_dtype)};
  kv.pages = PoolPages(options, kv.layout);
  if (kv.pages < 2) {
    return Error(Code::kInvalidArgument,
                 "the KV pool must hold at least 2 pages of {} tokens ({} bytes each); "
                 "max_total_tokens is {}, kv_memory_bytes {}",
                 options.page_tokens, kv.layout.PageBytes(), options.max_total_tokens,
                 options.kv_memory_bytes);
  }
  options.max_total_tokens = kv.pages * options.page_tokens;
  options.kv_memory_bytes = static_cast<size_t>(kv.pages) * kv.layout.PageBytes();
  Result<std::unique_ptr<kernels::Buffer>> buffer =
      options.shared_kv ? ops->AllocateShared(options.kv_memory_bytes) : ops->Allocate(options.kv_memory_bytes);
  if (!buffer.ok()) return buffer.status().Prefixed("allocating the KV pool");
  kv.base = (*buffer)->span().data;

  std::unique_ptr<Engine> engine(new Engine);
  engine->impl_ = std::make_unique<Impl>(std::move(ops), std::move(model), std::move(*buffer), kv, options);
  engine->impl_->thread = std::thread([impl = engine->impl_.get()] { impl->Run(); });
  return engine;
}

Engine::~Engine() {
  impl_->inbox->Post(StopMessage{});
  impl_->thread.join();
}

// ---------------------------------------------------------------------------------- requests

Status Engine::Impl::CheckRequest(const Request& request) const {
  const int vocab = model->config().vocab;
  const size_t length = request.prompt.size() + request.resumed.size();
  if (request.prompt.empty()) return Error(Code::kInvalidArgument, "the prompt has no tokens");
  if (length > static_cast<size_t>(max_prompt_tokens)) {
    return Error(Code::kInvalidArgument,
                 "the prompt has {} tokens; at most {} fit (context {}, KV pool {} tokens)", length,
                 max_prompt_tokens, options.context_length, options.max_total_tokens);
  }
  const auto out_of_range = [vocab](int32_t id) { return id < 0 || id >= vocab; };
  const auto check_ids = [&](const char* what, const std::vector<int32_t>& ids) {
    const auto bad = std::ranges::find_if(ids, out_of_range);
    if (bad == ids.end()) return Status::Ok();
    return Error(Code::kInvalidArgument, "{} hold token id {}; the model's ids are 0 to {}", what, *bad,
                 vocab - 1);
  };
  if (Status s = check_ids("the prompt's tokens", request.prompt); !s.ok()) return s;
  if (Status s = check_ids("the resumed outputs", request.resumed); !s.ok()) return s;
  if (Status s = check_ids("the end ids", request.end_ids); !s.ok()) return s;
  if (Status s = check_ids("the logprob ids", request.logprobs.token_ids); !s.ok()) return s;
  if (request.logprobs.top < 0 || request.logprobs.top > vocab) {
    return Error(Code::kInvalidArgument, "the number of top logprobs must be between 0 and {}, got {}",
                 vocab, request.logprobs.top);
  }
  if (!request.sampling.seed) return Error(Code::kInvalidArgument, "sampling.seed is not set");
  return api::Validate(request.sampling, vocab);
}

Result<std::unique_ptr<Sequence>> Engine::Impl::MakeSequence(Request request) const {
  if (Status s = CheckRequest(request); !s.ok()) return s;
  auto sequence = std::make_unique<Sequence>();
  sequence->queued_at = Now();
  sequence->prompt_tokens = static_cast<int>(request.prompt.size());
  const api::SamplingParams& sampling = request.sampling;
  int max_outputs = options.context_length - sequence->prompt_tokens;
  if (sampling.max_new_tokens >= 0) max_outputs = std::min(max_outputs, sampling.max_new_tokens);
  const int resumed = static_cast<int>(request.resumed.size());
  if (resumed > 0 && resumed >= max_outputs) {
    return Error(Code::kInvalidArgument, "{} outputs are resumed of a request that ends after {}", resumed,
                 max_outputs);
  }
  if (request.observer != nullptr) max_outputs = std::min(max_outputs, resumed + 1);
  sequence->max_outputs = max_outputs;
  sequence->tokens = std::move(request.prompt);
  // Long answers may grow the vector a few times more; most never do.
  sequence->tokens.reserve(sequence->tokens.size() + static_cast<size_t>(std::min(max_outputs, resumed + 1024)));
  if (HasPenalties(sampling)) {
    sequence->counts.AddPrompt(sequence->tokens);
    for (const int32_t token : request.resumed) sequence->counts.AddOutput(token);
  }
  sequence->tokens.insert(sequence->tokens.end(), request.resumed.begin(), request.resumed.end());
  if (request.logprobs.enabled && request.logprobs.prompt_start >= 0) {
    sequence->prompt_logprobs.reserve(static_cast<size_t>(
        std::max(sequence->length() - request.logprobs.prompt_start, 0)));
  }
  sequence->request = std::move(request);
  return sequence;
}

Status Engine::Impl::EnterQueue() {
  const int waiting = posted_requests.fetch_add(1) + waiting_requests.load();
  if (waiting < options.max_queued) return Status::Ok();
  posted_requests.fetch_sub(1);
  return Error(Code::kResourceExhausted, "the queue is full: {} requests are waiting (max_queued {})",
               waiting, options.max_queued);
}

RequestId Engine::NewId() { return {impl_->next_id.fetch_add(1)}; }

Status Engine::Submit(Request request) {
  if (request.sink == nullptr && request.observer == nullptr) {
    return Error(Code::kInvalidArgument, "a request needs a sink or an observer");
  }
  Result<std::unique_ptr<Sequence>> sequence = impl_->MakeSequence(std::move(request));
  if (!sequence.ok()) return sequence.status();
  if (Status s = impl_->EnterQueue(); !s.ok()) return s;
  impl_->inbox->Post(SubmitMessage{std::move(*sequence)});
  return Status::Ok();
}

Status Engine::ReserveKv(Request request, TimePoint deadline, ReadyCallback ready) {
  if (request.sink == nullptr || request.observer != nullptr) {
    return Error(Code::kInvalidArgument, "a reservation needs a sink and no observer");
  }
  Result<std::unique_ptr<Sequence>> sequence = impl_->MakeSequence(std::move(request));
  if (!sequence.ok()) return sequence.status();
  (*sequence)->deadline = deadline;
  if (Status s = impl_->EnterQueue(); !s.ok()) return s;
  impl_->inbox->Post(ReserveMessage{std::move(*sequence), std::move(ready)});
  return Status::Ok();
}

void Engine::StartWithKv(KvReservation reservation, FirstToken first) {
  if (!reservation) return;
  reservation.state_->started = true;
  impl_->inbox->Post(StartMessage{reservation.id(), std::move(first)});
}

void Engine::Abort(RequestId id) { impl_->inbox->Post(AbortMessage{id}); }
void Engine::AbortAll() { impl_->inbox->Post(AbortAllMessage{}); }

Status Engine::FlushCache() {
  if (std::this_thread::get_id() == impl_->thread.get_id()) return impl_->scheduler.FlushCache();
  std::promise<Status> done;
  std::future<Status> answer = done.get_future();
  impl_->inbox->Post(FlushMessage{std::move(done)});
  if (answer.wait_for(kFlushTimeout) != std::future_status::ready) {
    return Error(Code::kUnavailable, "the engine did not answer in {} s", kFlushTimeout.count());
  }
  return answer.get();
}

void Engine::SetBatchLog(int interval, std::function<std::string(bool decode)> pd_fields) {
  impl_->inbox->Post(BatchLogMessage{interval, std::move(pd_fields)});
}

MemorySpan Engine::kv_memory() const { return impl_->kv_buffer->span(); }
const kernels::KvLayout& Engine::kv_layout() const { return impl_->kv.layout; }
const model::ModelConfig& Engine::model_config() const { return impl_->model->config(); }
const kernels::BackendInfo& Engine::backend() const { return impl_->ops->info(); }
size_t Engine::weight_bytes() const { return impl_->model->weight_bytes(); }
const EngineOptions& Engine::options() const { return impl_->options; }
int Engine::max_prompt_tokens() const { return impl_->max_prompt_tokens; }
EngineStats Engine::stats() const { return impl_->stats.Load(); }

TimePoint Engine::last_progress() const {
  if (impl_->idle.load()) return Now();
  return TimePoint(Duration(impl_->progress.load()));
}

// ---------------------------------------------------------------------------------- the loop

void Engine::Impl::Run() {
  while (true) {
    DrainInbox();
    if (stopping) break;
    const StepPlan& plan = scheduler.Plan(Now());
    DeliverNotices();
    if (plan.empty()) {
      Sleep();
    } else {
      Step(plan);
    }
    PublishStats();
  }
  Shutdown();
  PublishStats();
}

void Engine::Impl::DrainInbox() {
  inbox->TakeAll([this](Message&& message) {
    std::visit([this](auto&& content) { Handle(std::move(content)); }, std::move(message));
  });
}

void Engine::Impl::Sleep() {
  batch_log.OnIdle(scheduler, prefill_rate.rate());
  PublishStats();
  idle = true;
  inbox->Wait(scheduler.NextDeadline());
  progress = Now().time_since_epoch().count();
  idle = false;
}

void Engine::Impl::Shutdown() {
  // Last events may make their receivers post more; they get their answers too. Bounded, because a
  // receiver that resubmits for ever must not keep us alive.
  for (int round = 0; round < 3; ++round) {
    scheduler.AbortAll();
    DeliverNotices();
    DrainInbox();
  }
  scheduler.AbortAll();
  DeliverNotices();
}

void Engine::Impl::Handle(SubmitMessage&& message) {
  scheduler.Add(std::move(message.sequence));
  waiting_requests = scheduler.waiting() + scheduler.reserving();
  posted_requests.fetch_sub(1);
}

void Engine::Impl::Handle(ReserveMessage&& message) {
  const RequestId id = message.sequence->id();
  // Checked here too: the scheduler's refusal would find the first one's callback.
  if (ready_callbacks.contains(id)) {
    message.ready(Error(Code::kInvalidArgument, "request id is in use already"));
  } else {
    ready_callbacks.emplace(id, std::move(message.ready));
    scheduler.AddReservation(std::move(message.sequence));
  }
  waiting_requests = scheduler.waiting() + scheduler.reserving();
  posted_requests.fetch_sub(1);
}

void Engine::Impl::DeliverNotices() {
  if (!scheduler.has_notices()) return;
  for (Notice& notice : scheduler.TakeNotices()) {
    if (notice.kind == Notice::Kind::kEnded) {
      Output output = MakeOutput(*notice.sequence);
      output.finish = notice.finish;
      output.status = std::move(notice.status);
      EmitEnd(std::move(notice.sequence), output);
      continue;
    }
    const bool granted = notice.kind == Notice::Kind::kGranted;
    const Sequence& sequence = granted ? *notice.granted : *notice.sequence;
    auto callback = ready_callbacks.extract(sequence.id());
    if (callback.empty()) continue;
    if (!granted) {
      callback.mapped()(std::move(notice.status));
      continue;
    }
    KvReservation reservation;
    reservation.state_.reset(new KvReservation::State{.inbox = inbox,
                                                      .id = sequence.id(),
                                                      .pages = sequence.pages,
                                                      .cached_tokens = sequence.cached_tokens});
    callback.mapped()(std::move(reservation));
  }
}

void Engine::Impl::PublishStats() {
  const PagePool& pool = scheduler.pool();
  const Scheduler::Counters& counters = scheduler.counters();
  EngineStats s;
  s.running = scheduler.active();
  s.queued = scheduler.waiting();
  s.reserving = scheduler.reserving();
  s.reserved = scheduler.reserved();
  s.retracted = scheduler.retracted();
  s.holds = scheduler.holds();
  s.pages_total = pool.total();
  s.pages_free = pool.free_pages();
  s.pages_cached = scheduler.cache().evictable();
  s.pages_used = s.pages_total - s.pages_free - s.pages_cached;
  s.max_running = options.max_running;
  s.max_total_tokens = options.max_total_tokens;
  s.steps = steps;
  s.prompt_tokens = counters.prompt_tokens;
  s.cached_tokens = counters.cached_tokens;
  s.output_tokens = counters.output_tokens;
  s.requests = counters.requests;
  s.aborted = counters.aborted;
  s.retractions = counters.retractions;
  s.evicted_tokens = counters.evicted_pages * static_cast<uint64_t>(options.page_tokens);
  s.gen_tok_s = decode_rate.rate();
  s.prefill_tok_s = prefill_rate.rate();
  s.token_usage = static_cast<double>(s.pages_used) / s.pages_total;
  stats.Store(s);
  waiting_requests = s.queued + s.reserving;
}

}  // namespace baton::engine
