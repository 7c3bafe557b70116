#include "bench/serving/serving_bench.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <csignal>
#include <ctime>

#include "common/file_limit.h"

namespace baton::bench::serving {
namespace {

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
constexpr auto kProgressEvery = 500ms;
constexpr auto kLookPatience = 30s;  // for /v1/models
constexpr uint64_t kDefaultPrompts = 1000;
constexpr uint64_t kWarmupStream = 0x5741, kPointStream = 0x504F,
                   kCalibrationStream = 0x4341;  // of DeriveSeed
constexpr size_t kWarmupConcurrency = 16;
constexpr double kLagWarningMs = 10, kCpuWarning = 0.9;

std::string UtcNow() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  ::gmtime_r(&now, &utc);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

// "http://host:port/prefix" taken apart. A prefix of /v1 is what OpenAI clients write; the API's
// own path has it already.
Status SplitUrl(const std::string& url, http::Origin* origin, std::string* prefix) {
  const size_t scheme = url.find("://");
  const size_t slash = url.find('/', scheme == std::string::npos ? 0 : scheme + 3);
  auto parsed = http::ParseOrigin(url.substr(0, slash));
  if (!parsed.ok()) return parsed.status().Prefixed("--base-url");
  *origin = *parsed;
  if (slash != std::string::npos) *prefix = url.substr(slash);
  while (prefix->ends_with('/')) prefix->pop_back();
  if (prefix->ends_with("/v1")) prefix->resize(prefix->size() - 3);
  return Status::Ok();
}

Status Validate(const ServingOptions& o) {
  const auto bad = [](std::string_view what) { return Error(Code::kInvalidArgument, "{}", what); };
  if (o.rates.empty() || o.concurrencies.empty()) return bad("a sweep needs at least one point");
  for (const auto& rate : o.rates) {
    if (rate && !(*rate > 0 && *rate <= 1e6)) return bad("--request-rate must be above 0 (or inf)");
  }
  if (!(o.burstiness > 0)) return bad("--burstiness must be above 0");
  if (o.trace_times && !(o.trace_scale >= 0)) return bad("the time scale must not be negative");
  if (o.trace_times && o.rates.front())
    return bad("a request rate and the trace's own times exclude each other");
  if (o.workload.turns < 1) return bad("--turns must be at least 1");
  const WorkloadOptions& w = o.workload;
  if (w.prefix_groups < 1 || w.prompts_per_group < 1 || w.prefix_tokens < 0)
    return bad("--gsp-*: counts must be at least 1");
  if (w.block_tokens < 1 || !(w.length_scale > 0))
    return bad("block size and length scale must be above 0");
  if (o.num_prompts && *o.num_prompts == 0) return bad("--num-prompts must be at least 1");
  const bool has_end = o.num_prompts || o.duration > Duration::zero();
  if (has_end && !o.num_prompts && !o.rates.front() && !o.trace_times &&
      o.concurrencies.front() == 0) {
    return bad(
        "--duration needs --request-rate or --max-concurrency, else everything is sent at once");
  }
  if (!(o.slo_attainment > 0 && o.slo_attainment <= 1))
    return bad("--slo-attainment must be in (0, 1]");
  return Status::Ok();
}

// Thousands of connections need as many descriptors.
Status RaiseDescriptorLimit(size_t wanted) {
  if (const uint64_t limit = RaiseFileLimit(); limit < wanted + 64) {
    return Error(Code::kInvalidArgument,
                 "{} connections need a higher limit of open files than {} (ulimit -Hn)", wanted, limit);
  }
  return Status::Ok();
}

class Session {
 public:
  Session(const ServingOptions& options, const ServingHooks& hooks)
      : options_(options), hooks_(hooks), signals_(io_), progress_timer_(io_) {}

  Result<ServingReport> Run();

 private:
  asio::awaitable<void> Main();
  asio::awaitable<Status> FindModel();
  asio::awaitable<Status> Calibrate();
  asio::awaitable<std::optional<int>> ProbePromptTokens(int words);
  asio::awaitable<LoadResult> RunLoad(LoadOptions load);
  asio::awaitable<Status> WarmUp();
  asio::awaitable<void> RunPoint(std::optional<double> rate, size_t concurrency);
  asio::awaitable<void> ShowProgress();
  void WatchSignals();
  LoadOptions LoadOf(std::optional<double> rate, size_t concurrency) const;
  void Note(const std::string& line) {
    if (hooks_.note) hooks_.note(line);
  }
  void ChooseBest();
  void AddWarnings();

  const ServingOptions& options_;
  const ServingHooks& hooks_;
  asio::io_context io_;
  asio::signal_set signals_;
  asio::steady_timer progress_timer_;
  Target target_;
  std::string prefix_;
  BodyOptions body_;
  std::optional<http::Client> client_;
  std::optional<RequestCaller> caller_;
  std::optional<TextMaker> text_;
  std::optional<Workload> workload_;
  LoadRun* current_ = nullptr;
  asio::cancellation_signal main_cancel_;  // of the looks and probes before the first run
  uint64_t next_conversation_ = 0;
  bool interrupted_ = false;
  Status failure_;
  ServingReport report_;
};

void Session::WatchSignals() {
  signals_.async_wait([this](const boost::system::error_code& ec, int) {
    if (ec) return;
    if (interrupted_) std::_Exit(130);  // asked twice: the report is not wanted
    interrupted_ = true;
    Note("Stopping: the report tells what was done (again: at once)");
    if (current_) {
      current_->Stop();
    } else {
      main_cancel_.emit(asio::cancellation_type::terminal);
    }
    WatchSignals();
  });
}

asio::awaitable<void> Session::ShowProgress() {
  while (current_) {
    progress_timer_.expires_after(kProgressEvery);
    const auto [ec] = co_await progress_timer_.async_wait(kAwait);
    if (ec || !current_) co_return;
    hooks_.progress(current_->tally(), current_->elapsed_s());
  }
}

asio::awaitable<Status> Session::FindModel() {
  if (!body_.model.empty() || body_.api == Api::kGenerate) co_return Status::Ok();
  http::ClientRequest request;
  request.target = prefix_ + "/v1/models";
  request.headers = target_.headers;
  const auto response =
      co_await client_->Fetch(target_.origin, std::move(request), Now() + kLookPatience);
  if (!response.ok()) co_return Error(Code::kUnavailable, "{}", response.status().message());
  const auto parsed = json::Parse(response->body);
  if (response->status == 200 && parsed.ok() && parsed->is_object()) {
    const json::value* data = json::Find(parsed->get_object(), "data");
    if (data && data->is_array() && !data->get_array().empty() &&
        data->get_array()[0].is_object()) {
      const json::value* id = json::Find(data->get_array()[0].get_object(), "id");
      if (id && id->is_string()) {
        body_.model = id->get_string();
        co_return Status::Ok();
      }
    }
  }
  co_return Error(Code::kUnavailable, "{}{}/v1/models names no model (HTTP {}: {}); give --model",
                  target_.origin.ToString(), prefix_, response->status, ErrorText(response->body));
}

// Prompt tokens that the server counts for a prompt of so many words, or nullopt.
asio::awaitable<std::optional<int>> Session::ProbePromptTokens(int words) {
  BodyOptions body = body_;
  body.stream = false;
  const std::vector<Message> prompt(
      1, Message{true, CalibrationText(DeriveSeed(options_.seed, kCalibrationStream), words)});
  auto bytes = MakeBody(body, prompt, 1, Encoder());
  if (!bytes.ok()) co_return std::nullopt;
  http::ClientRequest request;
  request.method = "POST";
  request.target = target_.path;
  request.headers = target_.headers;
  request.body = std::move(*bytes);
  const auto response =
      co_await client_->Fetch(target_.origin, std::move(request), Now() + options_.request_timeout);
  if (!response.ok() || response->status != 200) co_return std::nullopt;
  EventReader reader(body_.api);
  const auto facts = reader.Read(response->body);
  co_return facts.ok() ? facts->prompt_tokens : std::nullopt;
}

asio::awaitable<Status> Session::Calibrate() {
  if (hooks_.encoder) {
    auto made = TextMaker::WithEncoder(hooks_.encoder);
    if (!made.ok()) co_return made.status();
    text_ = std::move(*made);
    report_.lengths_by = "tokenizer";
    co_return Status::Ok();
  }
  // The slope between two lengths: what a template adds falls out.
  constexpr int kFew = 40, kMany = 240;
  const auto few = co_await ProbePromptTokens(kFew);
  const auto many = few ? co_await ProbePromptTokens(kMany) : std::nullopt;
  if (few && many && *many > *few) {
    const double rate = static_cast<double>(*many - *few) / (kMany - kFew);
    text_ = TextMaker::WithRate(rate);
    report_.lengths_by =
        fmt::format("calibrated: {:.3f} tokens a word by the server's usage", rate);
  } else {
    text_ = TextMaker::WithRate(1);
    report_.lengths_by = "words: no tokenizer, and the server counts no prompt tokens";
    report_.warnings.push_back(
        "Input lengths are words, not tokens: give --model-path or --tokenizer.");
  }
  co_return Status::Ok();
}

LoadOptions Session::LoadOf(std::optional<double> rate, size_t concurrency) const {
  LoadOptions load;
  load.rate_per_s = rate;
  load.arrival = options_.arrival;
  load.burstiness = options_.burstiness;
  if (options_.trace_times) load.trace_scale = options_.trace_scale;
  load.concurrency = concurrency;
  load.duration = options_.duration;
  if (options_.num_prompts) {
    load.conversations = *options_.num_prompts;
  } else if (options_.duration == Duration::zero()) {
    load.conversations = workload_->size() ? workload_->size() : kDefaultPrompts;
    if (options_.workload.kind == DatasetKind::kShareGpt)
      load.conversations = std::min(load.conversations, kDefaultPrompts);
  }
  return load;
}

asio::awaitable<LoadResult> Session::RunLoad(LoadOptions load) {
  LoadRun run(io_, *caller_, *workload_, *text_, body_, load, options_.slo);
  current_ = &run;
  if (hooks_.progress) asio::co_spawn(io_, ShowProgress(), asio::detached);
  co_await run.Run();
  current_ = nullptr;
  progress_timer_.cancel();
  co_return run.TakeResult();
}

asio::awaitable<Status> Session::WarmUp() {
  if (options_.warmup_requests == 0) co_return Status::Ok();
  LoadOptions load;
  load.conversations = options_.warmup_requests;
  load.concurrency = std::min<size_t>(options_.warmup_requests, kWarmupConcurrency);
  load.seed = DeriveSeed(options_.seed, kWarmupStream);
  const LoadResult warm = co_await RunLoad(load);
  if (options_.workload.kind == DatasetKind::kShareGpt)
    next_conversation_ = options_.warmup_requests;
  if (warm.tally.completed > 0 || interrupted_) co_return Status::Ok();
  const ErrorRow& row = warm.tally.errors.front();
  co_return Error(Code::kUnavailable, "every warm-up request failed ({}): {}",
                  FailureName(row.kind), row.first_message);
}

asio::awaitable<void> Session::RunPoint(std::optional<double> rate, size_t concurrency) {
  Point point{.rate_per_s = rate, .concurrency = concurrency, .load = LoadOf(rate, concurrency)};
  point.load.seed = DeriveSeed(options_.seed, kPointStream + report_.points.size());
  // A file has only so many conversations: each point takes the next ones. (Other datasets make
  // new text from the seed, and a trace begins at its first request.)
  point.load.first_index = next_conversation_;
  if (const size_t all = options_.rates.size() * options_.concurrencies.size(); all > 1) {
    Note(fmt::format("Point {} of {}:{}{}", report_.points.size() + 1, all,
                     rate ? fmt::format(" {:g} req/s", *rate) : "",
                     concurrency ? fmt::format(" {} at once", concurrency) : ""));
  }
  point.result = co_await RunLoad(point.load);
  if (options_.workload.kind == DatasetKind::kShareGpt)
    next_conversation_ +=
        point.load.conversations ? point.load.conversations : point.result.tally.sent;
  report_.points.push_back(std::move(point));
}

asio::awaitable<void> Session::Main() {
  co_await asio::this_coro::throw_if_cancelled(false);
  failure_ = co_await FindModel();
  if (failure_.ok()) failure_ = co_await Calibrate();
  if (interrupted_) failure_ = Error(Code::kCancelled, "interrupted before the first request");
  if (!failure_.ok()) co_return;
  WorkloadOptions wanted = options_.workload;
  wanted.wanted = options_.warmup_requests + options_.num_prompts.value_or(kDefaultPrompts) *
                                                 options_.rates.size() *
                                                 options_.concurrencies.size();
  auto workload = Workload::Make(wanted, *text_);
  failure_ = workload.status();
  if (!failure_.ok()) co_return;
  workload_ = std::move(*workload);
  if (options_.trace_times && !workload_->has_times()) {
    failure_ = Error(Code::kInvalidArgument, "this dataset has no recorded times");
    co_return;
  }
  report_.model = body_.model;
  Note(fmt::format("{} {}{}, lengths by {}", ApiName(body_.api), target_.origin.ToString(),
                   target_.path, report_.lengths_by));
  failure_ = co_await WarmUp();
  if (!failure_.ok()) co_return;
  for (const auto& rate : options_.rates) {
    for (const size_t concurrency : options_.concurrencies) {
      if (!interrupted_) co_await RunPoint(rate, concurrency);
    }
  }
}

void Session::ChooseBest() {
  const auto key = [this](const Point& p) {
    const bool meets = p.Attainment() >= options_.slo_attainment;
    return std::pair(
        meets, p.PerSecond(options_.slo.empty() ? p.result.tally.completed : p.result.tally.good));
  };
  for (size_t i = 1; i < report_.points.size(); ++i) {
    if (key(report_.points[i]) > key(report_.points[report_.best])) report_.best = i;
  }
  report_.slo_met = options_.slo.empty() || report_.points.empty() ||
                    report_.points[report_.best].Attainment() >= options_.slo_attainment;
}

void Session::AddWarnings() {
  for (const Point& p : report_.points) {
    const LoadResult& r = p.result;
    const std::string name =
        report_.points.size() == 1 ? "" : fmt::format("Point {}: ", &p - report_.points.data() + 1);
    if (const double lag = r.loop_lag_ms.Percentile(99); lag > kLagWarningMs) {
      report_.warnings.push_back(
          fmt::format("{}The load generator ran late (p99 {:.1f} ms): latencies include its own "
                      "delay. Give it a free core.",
                      name, lag));
    }
    if (r.wall_s > 0 && r.cpu_s / r.wall_s > kCpuWarning) {
      report_.warnings.push_back(
          fmt::format("{}The load generator used {:.0f} % of a core: it may be the bottleneck.",
                      name, 100 * r.cpu_s / r.wall_s));
    }
    const double late = r.tally.send_lag.Percentile(99);
    if (p.load.open_loop() && late > kLagWarningMs) {
      report_.warnings.push_back(
          fmt::format("{}Requests left late (p99 {:.0f} ms after their time{}); latencies count "
                      "from the intended time.",
                      name, late, p.concurrency ? ", the concurrency cap was reached" : ""));
    }
    if (r.tally.completed > r.tally.by_usage) {
      report_.warnings.push_back(fmt::format(
          "{}{} answers had no usage: their tokens are counted as pieces of the stream.", name,
          r.tally.completed - r.tally.by_usage));
    }
  }
}

Result<ServingReport> Session::Run() {
  if (Status s = Validate(options_); !s.ok()) return s;
  if (Status s = SplitUrl(options_.base_url, &target_.origin, &prefix_); !s.ok()) return s;
  size_t most = 0;
  for (const size_t c : options_.concurrencies) most = std::max(most, c);
  if (Status s = RaiseDescriptorLimit(most); !s.ok()) return s;
  body_ = options_.body;
  target_.path =
      prefix_ + (options_.path.empty() ? std::string(DefaultPath(body_.api)) : options_.path);
  target_.request_timeout = options_.request_timeout;
  target_.headers.Add("Content-Type", "application/json");
  if (!options_.api_key.empty()) target_.headers.Add("Authorization", "Bearer " + options_.api_key);
  for (const auto& [name, value] : options_.headers) target_.headers.Set(name, value);

  http::ClientOptions client;
  client.connect_timeout =
      std::chrono::duration_cast<std::chrono::milliseconds>(options_.connect_timeout);
  client.max_idle_per_origin = 1 << 20;
  client_.emplace(io_.get_executor(), client);
  caller_.emplace(*client_, target_, body_.api, body_.stream);
  report_.url = target_.origin.ToString() + target_.path;
  report_.started_utc = UtcNow();
  if (options_.handle_signals) {
    signals_.add(SIGINT);
    signals_.add(SIGTERM);
    WatchSignals();
  }
  const auto at_end = [this](std::exception_ptr error) {
    client_->CloseIdle();
    boost::system::error_code ignored;
    signals_.cancel(ignored);
    signals_.clear(ignored);
    if (error) std::rethrow_exception(error);
  };
  asio::co_spawn(io_, Main(), asio::bind_cancellation_slot(main_cancel_.slot(), at_end));
  io_.run();
  if (!failure_.ok()) return failure_;
  report_.interrupted = interrupted_;
  ChooseBest();
  AddWarnings();
  return std::move(report_);
}

}  // namespace

double Point::Attainment() const {
  const Tally& t = result.tally;
  if (t.slo().empty()) return 1;
  const uint64_t ended = t.completed + t.failed;
  return ended ? static_cast<double>(t.good) / static_cast<double>(ended) : 0;
}

Result<ServingReport> RunServingBench(const ServingOptions& options, const ServingHooks& hooks) {
  Session session(options, hooks);
  return session.Run();
}

int ExitCodeOf(const ServingReport& report) {
  if (report.interrupted) return 5;
  uint64_t completed = 0, failed = 0;
  for (const Point& p : report.points) {
    completed += p.result.tally.completed;
    failed += p.result.tally.failed;
  }
  if (completed == 0 && failed > 0) return 4;
  return report.slo_met ? 0 : 6;
}

}  // namespace baton::bench::serving
