#include "router/prober.h"

#include <algorithm>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "common/json.h"
#include "common/log.h"
#include "router/introducer.h"
#include "router/load_poller.h"

namespace baton::router {
namespace {

constexpr Duration kMetadataTime = std::chrono::seconds(2);
// Between questions that a worker does not answer: a worker that has no such route is not asked for ever
// at the pace of its health checks.
constexpr Duration kInfoRetry = std::chrono::seconds(1);
constexpr Duration kMostInfoRetry = std::chrono::seconds(30);
constexpr size_t kMaxInfoBytes = 4 << 20;

struct Bell {
  explicit Bell(const asio::any_io_executor& executor)
      : timer(executor), load_timer(std::make_shared<asio::steady_timer>(executor)) {}
  asio::steady_timer timer;
  std::shared_ptr<asio::steady_timer> load_timer;
};

// When to ask a worker that takes requests already for its metadata. Used on the prober's strand.
struct Questions {
  bool asking = false;
  Duration pause = kInfoRetry;
  TimePoint next{};
  void Answered(bool good, TimePoint now) {
    next = good ? now : now + pause;
    pause = good ? kInfoRetry : std::min(2 * pause, kMostInfoRetry);
  }
};

asio::awaitable<Result<http::Response>> Get(std::shared_ptr<Services> services, WorkerPtr worker,
                                            std::string target, std::string api_key,
                                            TimePoint deadline) {
  http::ClientRequest request;
  request.target = std::move(target);
  if (!api_key.empty()) request.headers.Set("Authorization", "Bearer " + api_key);
  http::Origin origin = worker->origin();
  co_return co_await services->client.Fetch(std::move(origin), std::move(request), deadline, kMaxInfoBytes);
}

// Workers before 0.5.9 only know the old name.
asio::awaitable<bool> FetchMetadata(std::shared_ptr<Services> services, WorkerPtr worker,
                                    std::string api_key) {
  const TimePoint deadline = Now() + kMetadataTime;
  auto info = co_await Get(services, worker, "/server_info", api_key, deadline);
  if (info.ok() && info->status == 404) {
    info = co_await Get(services, worker, "/get_server_info", api_key, deadline);
  }
  if (!info.ok() || info->status != 200) co_return false;
  services->registry->SetMetadata(worker, ReadMetadata(info->body));
  co_return true;
}

// One line when a probe begins to fail, or fails for another reason: among them certificates.
void TellProblem(const Worker& worker, const Result<http::Response>& answer, std::string* last) {
  std::string problem;
  if (!answer.ok()) problem = answer.status().message();
  else if (answer->status / 100 != 2) problem = fmt::format("{}: status {}", worker.url(), answer->status);
  if (problem == *last) return;
  if (!problem.empty()) log::warn("Health check of {} worker fails: {}", RoleName(worker.role()), problem);
  *last = std::move(problem);
}

// Of a worker that takes requests: the other side is told of it once it says who it is. False when it
// did not, or is somebody else.
asio::awaitable<bool> LearnLate(std::shared_ptr<Services> services, WorkerPtr worker, std::string api_key,
                                std::shared_ptr<Questions> questions) {
  questions->asking = true;
  const bool told = co_await FetchMetadata(services, worker, std::move(api_key));
  const bool good = told && services->registry->IsHealthy(worker);
  questions->asking = false;
  questions->Answered(good, Now());
  if (good) Introduce(services, worker);
  co_return good;
}

asio::awaitable<void> Probe(std::shared_ptr<Services> services, WorkerPtr worker, Registry::ProbePlan plan,
                            std::string* last_problem, std::shared_ptr<Questions> questions) {
  const TimePoint started = Now();
  auto answer = co_await Get(services, worker, services->options.health.endpoint, plan.api_key,
                             started + plan.patience);
  const TimePoint ended = Now();
  const bool good = answer.ok() && answer->status / 100 == 2;
  TellProblem(*worker, answer, last_problem);
  if (answer.status().code() == Code::kResourceExhausted) {
    services->registry->OnNoProbe(worker, ended);
    co_return;
  }
  // Once before the worker takes requests, since they may need its bootstrap port. When it does not
  // answer it is asked again beside the health checks, which must not wait for that.
  if (good && plan.wants_info && !plan.healthy) {
    questions->Answered(co_await FetchMetadata(services, worker, plan.api_key), Now());
  }
  services->registry->OnProbe(worker, good, ended - started, Now());
  if (good && !plan.healthy && services->registry->IsHealthy(worker)) Introduce(services, worker);
  if (good && plan.wants_info && plan.healthy && !questions->asking && Now() >= questions->next) {
    asio::co_spawn(co_await asio::this_coro::executor, LearnLate(services, worker, plan.api_key, questions),
                   [](std::exception_ptr error, bool) {
                     if (error) log::error("router: a question for metadata ended by an exception");
                   });
  }
}

asio::awaitable<void> ProbeLoop(std::shared_ptr<Services> services, WorkerPtr worker,
                                std::shared_ptr<Bell> bell) {
  std::string last_problem;
  const auto questions = std::make_shared<Questions>();
  while (!services->stopped) {
    const Registry::ProbePlan plan = services->registry->NextProbe(worker);
    if (plan.removed) co_return;
    if (!plan.enabled) {
      // Nobody else tells when the worker is there.
      if (co_await LearnLate(services, worker, plan.api_key, questions)) co_return;
      bell->timer.expires_at(questions->next);
      co_await bell->timer.async_wait(asio::as_tuple(asio::use_awaitable));
      continue;
    }
    if (Now() >= plan.at) {
      co_await Probe(services, worker, plan, &last_problem, questions);
      continue;
    }
    bell->timer.expires_at(plan.at);
    co_await bell->timer.async_wait(asio::as_tuple(asio::use_awaitable));
  }
}

template <typename T>
void ReadInteger(const json::object& from, std::string_view key, std::optional<T>* out) {
  const json::value* found = json::Find(from, key);
  if (found && found->is_int64() && std::in_range<T>(found->get_int64())) {
    *out = static_cast<T>(found->get_int64());
  }
}

void ReadText(const json::object& from, std::string_view key, std::string* out) {
  const json::value* found = json::Find(from, key);
  if (found && found->is_string()) *out = std::string_view(found->get_string());
}

}  // namespace

WorkerMetadata ReadMetadata(std::string_view server_info) {
  WorkerMetadata m;
  const auto parsed = json::Parse(server_info);
  if (!parsed.ok() || !parsed->is_object()) return m;
  const json::object& info = parsed->get_object();
  ReadText(info, "model_path", &m.model_path);
  ReadText(info, "served_model_name", &m.served_model_name);
  ReadText(info, "disaggregation_mode", &m.disaggregation_mode);
  ReadText(info, "version", &m.version);
  m.is_baton = info.contains("baton_version");
  ReadInteger(info, "tp_size", &m.tp_size);
  ReadInteger(info, "dp_size", &m.dp_size);
  ReadInteger(info, "max_total_num_tokens", &m.max_total_tokens);
  if (m.disaggregation_mode == "prefill") {
    ReadInteger(info, "disaggregation_bootstrap_port", &m.bootstrap_port);
  }
  return m;
}

void StartProber(std::shared_ptr<Services> services, WorkerPtr worker) {
  const asio::any_io_executor strand = asio::make_strand(services->executor);
  const auto bell = std::make_shared<Bell>(strand);
  services->registry->SetKick(worker, [weak = std::weak_ptr<Bell>(bell), strand] {
    asio::post(strand, [weak] {
      const auto alive = weak.lock();
      if (!alive) return;
      alive->timer.cancel();
      alive->load_timer->cancel();
    });
  });
  const auto report = [](std::exception_ptr error) {
    if (error) log::error("router: a health prober ended by an exception");
  };
  if (services->options.load_poll_interval > Duration::zero()) {
    // The bell must outlive the poller, or nobody could wake it.
    asio::co_spawn(strand, PollLoads(services, worker, bell->load_timer),
                   [bell, report](std::exception_ptr error) { report(error); });
  }
  asio::co_spawn(strand, ProbeLoop(std::move(services), std::move(worker), bell), report);
}

}  // namespace baton::router
