#include "router/load_poller.h"

#include <array>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace baton::router {
namespace {

constexpr Duration kPollTime = std::chrono::seconds(1);
constexpr Duration kUnsupportedPause = std::chrono::seconds(60);
constexpr size_t kMaxReportBytes = 1 << 20;
constexpr std::array<const char*, 2> kRoutes = {"/v1/loads", "/get_load"};

enum class Answer : uint8_t { kReport, kUnsupported, kFailed, kNotAsked };

asio::awaitable<Answer> Ask(std::shared_ptr<Services> services, WorkerPtr worker,
                            std::string api_key, const char* target, LoadReport* report,
                            RankReports* by_rank) {
  http::ClientRequest request;
  request.target = target;
  if (!api_key.empty()) request.headers.Set("Authorization", "Bearer " + api_key);
  http::Origin origin = worker->origin();
  auto answer = co_await services->client.Fetch(std::move(origin), std::move(request),
                                                Now() + kPollTime, kMaxReportBytes);
  if (answer.status().code() == Code::kResourceExhausted) co_return Answer::kNotAsked;  // the router's own lack
  if (!answer.ok() || answer->status >= 500) {
    // "Not implemented" is a way to say that there is no such route.
    const bool none = answer.ok() && answer->status == 501;
    co_return none ? Answer::kUnsupported : Answer::kFailed;
  }
  const auto read = answer->status / 100 == 2 ? ReadLoadReport(answer->body, by_rank) : std::nullopt;
  if (!read) co_return Answer::kUnsupported;
  *report = *read;
  co_return Answer::kReport;
}

// Tries the route that worked last first.
asio::awaitable<Answer> Poll(std::shared_ptr<Services> services, WorkerPtr worker,
                             std::string api_key, size_t* route, LoadReport* report,
                             RankReports* by_rank) {
  Answer answer = Answer::kUnsupported;
  for (size_t i = 0; i < kRoutes.size() && answer == Answer::kUnsupported; ++i) {
    const size_t at = (*route + i) % kRoutes.size();
    answer = co_await Ask(services, worker, api_key, kRoutes[at], report, by_rank);
    if (answer == Answer::kReport) *route = at;
  }
  co_return answer;
}

}  // namespace

asio::awaitable<void> PollLoads(std::shared_ptr<Services> services, WorkerPtr worker,
                                std::shared_ptr<asio::steady_timer> timer) {
  size_t route = 0;
  TimePoint next = Now();
  while (!services->stopped) {
    const Registry::ProbePlan plan = services->registry->NextProbe(worker);
    if (plan.removed) co_return;
    if (plan.healthy && Now() >= next) {
      LoadReport report;
      RankReports by_rank;
      const Answer answer = co_await Poll(services, worker, plan.api_key, &route, &report,
                                          services->options.dp_aware ? &by_rank : nullptr);
      const Duration interval = services->options.load_poll_interval;
      next = Now() + (answer == Answer::kUnsupported ? std::max(interval, kUnsupportedPause) : interval);
      if (answer == Answer::kReport) services->registry->OnLoad(worker, report, by_rank, Now());
      else if (answer != Answer::kNotAsked) services->registry->OnNoLoad(worker, answer == Answer::kFailed);
      continue;
    }
    timer->expires_at(plan.healthy ? next : Now() + services->options.load_poll_interval);
    co_await timer->async_wait(asio::as_tuple(asio::use_awaitable));
  }
}

}  // namespace baton::router
