#include "bench/serving/load.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <ctime>

namespace baton::bench::serving {
namespace {

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
constexpr auto kLagProbe = 20ms;

double ProcessCpuSeconds() {
  timespec t{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

Duration FromSeconds(double s) {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(s));
}

}  // namespace

LoadRun::LoadRun(asio::io_context& io, RequestCaller& caller, const Workload& workload,
                 const TextMaker& text, const BodyOptions& body, const LoadOptions& options,
                 const Slo& slo)
    : io_(io),
      caller_(caller),
      workload_(workload),
      text_(text),
      body_(body),
      options_(options),
      result_{.tally = Tally(slo)},
      all_done_(io) {
  if (options_.rate_per_s) {
    arrivals_.emplace(options_.arrival, *options_.rate_per_s, options_.burstiness,
                      DeriveSeed(options_.seed, 0x4152));
  }
}

std::optional<LoadRun::Job> LoadRun::NextJob() {
  if (stopping_ || (options_.conversations && next_index_ == options_.conversations))
    return std::nullopt;
  Job job;
  job.at_s = options_.trace_scale        ? workload_.TimeOf(next_index_) * *options_.trace_scale
             : arrivals_                 ? arrivals_->Next()
             : options_.concurrency == 0 ? 0
                                         : -1;
  const double starts_s = job.at_s < 0 ? Elapsed() : job.at_s;
  if (options_.duration > Duration::zero() && starts_s >= Seconds(options_.duration))
    return std::nullopt;
  job.plan = workload_.Get(options_.first_index + next_index_++, options_.seed);
  return job;
}

Result<std::string> LoadRun::BodyOf(const std::vector<Message>& messages,
                                    const TurnPlan& turn) const {
  return MakeBody(body_, messages, turn.output_tokens, text_.encoder());
}

asio::awaitable<void> LoadRun::SleepUntil(double at_s) {
  asio::steady_timer timer(io_, start_ + FromSeconds(at_s));
  co_await timer.async_wait(kAwait);
}

asio::awaitable<void> LoadRun::Converse(Job job) {
  std::vector<Message> messages;
  for (size_t i = 0; i < job.plan.turns.size() && !stopping_; ++i) {
    const TurnPlan& turn = job.plan.turns[i];
    messages.emplace_back(Message{.from_user = true, .text = TextOf(turn, text_)});
    auto body = BodyOf(messages, turn);
    // Text from a file that the tokenizer refuses was left out when it was read.
    BATON_CHECK(body.ok(), "{}", body.status().message());
    if (i == 0 && job.at_s > 0) co_await SleepUntil(job.at_s);
    if (stopping_) co_return;
    CallState state;
    state.keep_answer = i + 1 < job.plan.turns.size();
    state.record.intended_s = i == 0 && job.at_s >= 0 ? job.at_s : Elapsed();
    co_await caller_.Call(std::move(*body), &state);
    if (state.record.failure != Failure::kNone) co_return;
    if (state.keep_answer)
      messages.emplace_back(Message{.from_user = false, .text = std::move(state.answer)});
  }
}

asio::awaitable<void> LoadRun::User() {
  while (auto job = NextJob()) co_await Converse(std::move(*job));
}

asio::awaitable<void> LoadRun::Dispatcher() {
  // A task begins a little ahead of its time, so that its text is ready when the time comes.
  constexpr double kAheadS = 0.05;
  while (auto job = NextJob()) {
    if (job->at_s > kAheadS) co_await SleepUntil(job->at_s - kAheadS);
    if (!stopping_) Spawn(Converse(std::move(*job)));
  }
}

asio::awaitable<void> LoadRun::ProbeLag() {
  asio::steady_timer timer(io_);
  while (!stopping_) {
    const TimePoint due = Now() + kLagProbe;
    timer.expires_at(due);
    const auto [ec] = co_await timer.async_wait(kAwait);
    if (ec) co_return;
    result_.loop_lag_ms.Add(std::max(0.0, Milliseconds(Now() - due)));
  }
}

void LoadRun::Spawn(asio::awaitable<void> task, bool counted) {
  signals_.emplace_back();
  const auto signal = std::prev(signals_.end());
  running_ += counted;
  // A cancel must reach the waits inside (the http client asks for it) and not throw out of the
  // coroutines on its way.
  auto quiet = [](asio::awaitable<void> inner) -> asio::awaitable<void> {
    co_await asio::this_coro::throw_if_cancelled(false);
    co_await std::move(inner);
  };
  asio::co_spawn(io_, quiet(std::move(task)),
                 asio::bind_cancellation_slot(signal->slot(),
                                              [this, signal, counted](std::exception_ptr error) {
                                                if (error) std::rethrow_exception(error);
                                                signals_.erase(signal);
                                                if (counted && --running_ == 0) all_done_.cancel();
                                              }));
}

asio::awaitable<void> LoadRun::Run() {
  start_ = Now();
  caller_.BeginRun(start_, &result_.tally);
  const double cpu_at_start = ProcessCpuSeconds();
  all_done_.expires_at(TimePoint::max());
  Spawn(ProbeLag(), false);
  if (options_.concurrency == 0) {
    Spawn(Dispatcher());
  } else {
    size_t users = options_.concurrency;
    if (options_.conversations) users = std::min<uint64_t>(users, options_.conversations);
    for (size_t i = 0; i < users; ++i) Spawn(User());
  }
  if (running_ > 0) co_await all_done_.async_wait(kAwait);
  result_.wall_s = Elapsed();
  result_.cpu_s = ProcessCpuSeconds() - cpu_at_start;
  result_.interrupted = stopping_;
  stopping_ = true;  // ends the lag probe
  for (auto& signal : signals_) signal.emit(asio::cancellation_type::terminal);
  // Its handler refers to this object: wait until it has run.
  asio::steady_timer turn(io_);
  while (!signals_.empty()) {
    turn.expires_after(1ms);
    co_await turn.async_wait(kAwait);
  }
}

void LoadRun::Stop() {
  stopping_ = true;
  for (auto& signal : signals_) signal.emit(asio::cancellation_type::terminal);
}

}  // namespace baton::bench::serving
