#include "router/fan_out.h"

#include <algorithm>

#include <boost/asio/co_spawn.hpp>

#include "common/json.h"
#include "common/log.h"
#include "router/engine_metrics.h"
#include "router/errors.h"
#include "router/exchange.h"
#include "router/routes.h"

namespace baton::router {
namespace {

constexpr Duration kAskTime = std::chrono::seconds(5);
// SGLang's /health_generate runs a generation and gives up at 20 s.
constexpr Duration kGenerateTime = std::chrono::seconds(25);
constexpr size_t kMaxAnswerBytes = 16 << 20;

struct Answer {
  WorkerView view;
  Result<http::Response> response = Error(Code::kCancelled, "not asked");
  bool good() const { return response.ok() && response->status / 100 == 2; }
  std::string Problem() const {
    if (!response.ok()) return response.status().message();
    return fmt::format("status {}", response->status);
  }
};

asio::awaitable<Result<http::Response>> Ask(std::shared_ptr<Services> services, WorkerView view,
                                            std::string method, std::string target, Duration time,
                                            std::string body = "") {
  http::ClientRequest request;
  if (!body.empty()) request.headers.Set("Content-Type", "application/json");
  request.body = std::move(body);
  request.method = std::move(method);
  request.target = std::move(target);
  if (!view.config.api_key.empty()) {
    request.headers.Set("Authorization", "Bearer " + view.config.api_key);
  }
  http::Origin origin = view.worker->origin();
  co_return co_await services->client.Fetch(std::move(origin), std::move(request), Now() + time,
                                            kMaxAnswerBytes);
}

// Asks all at once; answers in the order of `views`.
asio::awaitable<std::vector<Answer>> AskAll(std::shared_ptr<Services> services,
                                            std::vector<WorkerView> views, std::string method,
                                            std::string target, Duration time) {
  struct State {
    std::vector<Answer> answers;
    size_t open = 0;
  };
  const auto executor = co_await asio::this_coro::executor;
  const auto exchange = std::make_shared<Exchange>(executor);
  const auto state = std::make_shared<State>();
  for (WorkerView& view : views) state->answers.push_back(Answer{std::move(view)});
  state->open = state->answers.size();
  for (size_t i = 0; i < state->answers.size(); ++i) {
    asio::co_spawn(
        executor,
        [](std::shared_ptr<Services> s, std::shared_ptr<State> to, size_t at, std::string verb,
           std::string path, Duration within) -> asio::awaitable<void> {
          to->answers[at].response =
              co_await Ask(s, to->answers[at].view, std::move(verb), std::move(path), within);
        }(services, state, i, method, target, time),
        [state, exchange](std::exception_ptr error) {
          if (error) log::error("router: asking a worker ended by an exception");
          --state->open;
          exchange->Notify();
        });
  }
  const TimePoint until = Now() + 2 * time;  // each answer has its own deadline already
  while (state->open > 0 && Now() < until) co_await exchange->Wait(until);
  co_return state->answers;
}

http::Response NoWorkerAnswered(std::string_view what, const std::string& last) {
  RouterError error;
  error.status = 503;
  error.code = "no_worker_answered";
  error.message = fmt::format("no healthy worker answered {}{}{}", what, last.empty() ? "" : ": ", last);
  error.retry_after = "1";
  return ToResponse(error);
}

// Prefill workers first, as sglang-router does; healthy ones only.
std::vector<WorkerView> HealthyWorkers(const Services& services) {
  std::vector<WorkerView> ordered;
  const std::vector<WorkerView> all = services.registry->ListProcesses();
  for (const bool decode : {false, true}) {
    for (const WorkerView& view : all) {
      if (view.healthy && (view.worker->role() == Role::kDecode) == decode) ordered.push_back(view);
    }
  }
  return ordered;
}

// The first good answer to `target`, also tried under its other name.
asio::awaitable<http::Response> AskFirst(std::shared_ptr<Services> services, std::string target,
                                         std::string other_name) {
  std::string last;
  for (const WorkerView& view : HealthyWorkers(*services)) {
    auto response = co_await Ask(services, view, "GET", target, kAskTime);
    if (response.ok() && response->status == 404 && !other_name.empty()) {
      response = co_await Ask(services, view, "GET", other_name, kAskTime);
    }
    if (response.ok() && response->status / 100 == 2) {
      co_return JsonResponse(response->status, std::move(response->body));
    }
    last = response.ok() ? fmt::format("{} answered {}", view.worker->url(), response->status)
                         : response.status().message();
  }
  co_return NoWorkerAnswered(target, last);
}

bool NamesASecret(std::string_view name) {
  std::string lower(name);
  for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  for (const char* ending : {"_key", "_keys", "apikey"}) {
    if (lower.ends_with(ending)) return true;
  }
  if (lower.find("password") != std::string::npos || lower.find("secret") != std::string::npos) return true;
  const size_t token = lower.find("token");
  return token != std::string::npos && lower.compare(token, 9, "tokenizer") != 0;
}

// Numbers stay: counts of tokens are no secrets.
void Mask(json::value& value, bool secret) {
  if (value.is_object()) {
    for (auto& member : value.get_object()) Mask(member.value(), secret || NamesASecret(member.key()));
  } else if (value.is_array()) {
    for (json::value& item : value.get_array()) Mask(item, secret);
  } else if (secret && value.is_string() && !value.get_string().empty()) {
    value = "***";
  }
}

// Open to clients without a key, while SGLang's answer holds the keys of the worker.
asio::awaitable<http::Response> ServerInfo(std::shared_ptr<Services> services, http::Request&) {
  http::Response response = co_await AskFirst(services, "/server_info", "/get_server_info");
  if (response.status / 100 != 2) co_return response;
  auto masked = WithoutSecrets(response.body);
  if (!masked.ok()) co_return NoWorkerAnswered("/server_info", masked.status().message());
  response.body = std::move(*masked);
  co_return response;
}

// To the first healthy worker: all of them have the model's tokenizer.
asio::awaitable<http::Response> Tokenizing(std::shared_ptr<Services> services, http::Request& request) {
  std::string last;
  for (const WorkerView& view : HealthyWorkers(*services)) {
    auto response = co_await Ask(services, view, "POST", request.path, kAskTime, request.body);
    // What is wrong with the request is wrong with it everywhere.
    if (response.ok() && response->status < 500) co_return JsonResponse(response->status, std::move(response->body));
    last = response.ok() ? fmt::format("{} answered {}", view.worker->url(), response->status)
                         : response.status().message();
  }
  co_return NoWorkerAnswered(request.path, last);
}

RouteHandler FirstOf(std::string target, std::string other_name) {
  return [target, other_name](std::shared_ptr<Services> services, http::Request&) {
    return AskFirst(services, target, other_name);
  };
}

asio::awaitable<http::Response> HealthGenerate(std::shared_ptr<Services> services, http::Request&) {
  std::vector<WorkerView> pair;
  for (const WorkerView& view : HealthyWorkers(*services)) {
    const bool have = std::any_of(pair.begin(), pair.end(), [&](const WorkerView& v) {
      return v.worker->role() == view.worker->role();
    });
    if (!have) pair.push_back(view);
  }
  const size_t wanted = services->options.pd_disaggregation ? 2 : 1;
  if (pair.size() < wanted) co_return NoWorkerAnswered("/health_generate", "a role has no healthy worker");
  const auto answers = co_await AskAll(services, std::move(pair), "GET", "/health_generate", kGenerateTime);
  for (const Answer& answer : answers) {
    if (!answer.good()) co_return NoWorkerAnswered("/health_generate", answer.Problem());
  }
  co_return JsonResponse(200, R"({"status":"ok"})");
}

asio::awaitable<http::Response> FlushCache(std::shared_ptr<Services> services, http::Request&) {
  const auto answers =
      co_await AskAll(services, services->registry->ListProcesses(), "POST", "/flush_cache", kAskTime);
  json::array good, bad;
  services->registry->ForgetPrefixes();
  for (const Answer& answer : answers) {
    const std::string& url = answer.view.worker->url();
    if (answer.good()) good.emplace_back(url);
    else bad.push_back(json::object{{"worker", url}, {"error", answer.Problem()}});
  }
  json::object body;
  const int status = bad.empty() ? 200 : 502;
  body["status"] = bad.empty() ? "success" : good.empty() ? "failure" : "partial";
  body["message"] = fmt::format("flushed {} of {} workers", good.size(), answers.size());
  body["successful"] = std::move(good);
  body["failed"] = std::move(bad);
  co_return JsonResponse(status, json::serialize(body));
}

http::Response DescribeLoads(const std::vector<Answer>& answers, const std::vector<WorkerView>& listed) {
  json::array workers;
  for (const WorkerView& view : listed) {
    const WorkerPtr& process = view.worker->process() ? view.worker->process() : view.worker;
    const auto found = std::find_if(answers.begin(), answers.end(), [&](const Answer& a) { return a.view.worker == process; });
    if (found == answers.end()) continue;  // came since
    std::optional<LoadReport> load;
    RankReports by_rank;
    if (found->good()) load = ReadLoadReport(found->response->body, &by_rank);
    if (const int64_t rank = view.worker->rank(); rank >= 0) {
      load = static_cast<size_t>(rank) < by_rank.size() ? by_rank[static_cast<size_t>(rank)] : std::nullopt;
    }
    json::object row;
    row["worker"] = view.worker->url();
    row["worker_type"] = RoleName(view.worker->role());
    row["load"] = load ? json::value(load->tokens) : json::value(nullptr);
    row["in_flight"] = view.load;
    workers.push_back(std::move(row));
  }
  return JsonResponse(200, json::serialize(json::object{{"workers", std::move(workers)}}));
}

asio::awaitable<http::Response> GetLoads(std::shared_ptr<Services> services, http::Request&) {
  auto answers = co_await AskAll(services, services->registry->ListProcesses(), "GET", "/get_load", kAskTime);
  for (Answer& answer : answers) {
    if (answer.response.ok() && answer.response->status == 404) {
      answer.response = co_await Ask(services, answer.view, "GET", "/v1/loads", kAskTime);
    }
  }
  co_return DescribeLoads(answers, services->registry->List());
}

asio::awaitable<http::Response> EngineMetrics(std::shared_ptr<Services> services, http::Request&) {
  const auto answers = co_await AskAll(services, services->registry->ListProcesses(), "GET", "/metrics", kAskTime);
  std::vector<std::pair<std::string, std::string>> texts;
  for (const Answer& answer : answers) {
    if (answer.good()) texts.emplace_back(answer.view.worker->url(), answer.response->body);
  }
  http::Response response;
  response.headers.Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8");
  response.body = MergeMetrics(texts);
  co_return response;
}

}  // namespace

Result<std::string> WithoutSecrets(std::string_view body) {
  auto parsed = json::Parse(body);
  if (!parsed.ok()) return parsed.status();
  Mask(*parsed, false);
  return json::serialize(*parsed);
}

void InstallFanOut(std::shared_ptr<Services> services, http::Server& server) {
  AddRoute(services, server, "GET", "/v1/models", FirstOf("/v1/models", ""));
  for (const char* path : {"/get_model_info", "/model_info"}) {
    AddRoute(services, server, "GET", path, FirstOf("/model_info", "/get_model_info"));
  }
  for (const char* path : {"/get_server_info", "/server_info"}) {
    AddRoute(services, server, "GET", path, ServerInfo);
  }
  for (const char* path : {"/tokenize", "/v1/tokenize", "/detokenize", "/v1/detokenize"}) {
    AddRoute(services, server, "POST", path, Tokenizing);
  }
  AddRoute(services, server, "GET", "/health_generate", HealthGenerate);
  AddRoute(services, server, "GET", "/flush_cache", FlushCache);
  AddRoute(services, server, "POST", "/flush_cache", FlushCache);
  AddRoute(services, server, "GET", "/get_loads", GetLoads);
  AddRoute(services, server, "GET", "/engine_metrics", EngineMetrics);
}

}  // namespace baton::router
