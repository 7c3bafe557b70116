#include "router/discovery/kube_source.h"

#include <charconv>
#include <cstdlib>
#include <fstream>
#include <random>
#include <sstream>

#include "common/log.h"
#include "router/discovery/background.h"
#include "router/discovery/line_splitter.h"

namespace baton::router {
namespace {

constexpr const char* kAccountFolder = "/var/run/secrets/kubernetes.io/serviceaccount/";
constexpr Duration kListTime = std::chrono::seconds(60);
constexpr Duration kHeadTime = std::chrono::seconds(30);
// After the time at which the server should have ended a watch by itself.
constexpr Duration kWatchGrace = std::chrono::seconds(15);
constexpr size_t kMaxListBytes = size_t{512} << 20;
constexpr size_t kMaxEventBytes = size_t{8} << 20;  // etcd keeps objects below 1.5 MiB
constexpr size_t kMaxErrorBytes = 1 << 20;

struct Follow {
  Follow(const asio::any_io_executor& executor, KubeSource from)
      : source(std::move(from)),
        follower(source.options, source.pd, std::random_device{}()),
        client(executor, ApiClientOptions(source.options)) {}

  KubeSource source;
  PodFollower follower;
  http::Client client;
  http::Origin origin;
  std::string logged;  // the problem that was logged last
};

// Kubernetes renews the token under way, so it is read for each request: it is a small file in memory.
Result<std::string> ReadToken(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  if (!in || !(text << in.rdbuf())) return Error(Code::kNotFound, "cannot read the token in {}", path);
  std::string token = text.str();
  while (!token.empty() && (token.back() == '\n' || token.back() == '\r' || token.back() == ' ')) token.pop_back();
  return token;
}

Result<http::ClientRequest> MakeRequest(const Follow& f, const PodFollower::Request& from) {
  http::ClientRequest request;
  request.target = from.target;
  request.headers.Set("Accept", "application/json");
  request.headers.Set("User-Agent", "baton-router");
  if (!f.source.options.token_file.empty()) {
    auto token = ReadToken(f.source.options.token_file);
    if (!token.ok()) return token.status();
    request.headers.Set("Authorization", "Bearer " + *token);
  }
  return request;
}

Duration RetryAfter(const http::Headers& headers) {
  const std::string_view text = headers.Get("Retry-After");
  int seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  return error == std::errc() && seconds > 0 ? Duration(std::chrono::seconds(seconds)) : Duration{};
}

void Publish(Follow& f) {
  for (const std::string& warning : f.follower.TakeWarnings()) log::warn("Kubernetes discovery: {}", warning);
  if (f.follower.TakeChanged()) f.source.workers->Apply(f.follower.Wanted(), f.follower.TakeDead());
  if (f.follower.synced() && f.source.synced) std::exchange(f.source.synced, nullptr)();
  const std::string& problem = f.follower.problem();
  if (problem == f.logged) return;
  if (!problem.empty()) log::warn("Kubernetes discovery: {}; the known workers stay", problem);
  else log::info("Kubernetes discovery: the API server answers again");
  f.logged = problem;
}

asio::awaitable<void> List(Follow& f, http::ClientRequest request) {
  auto answer = co_await f.client.Fetch(f.origin, std::move(request), Now() + kListTime, kMaxListBytes);
  if (co_await Cancelled()) co_return;
  if (answer.ok()) f.follower.OnList(answer->status, answer->body, RetryAfter(answer->headers));
  else f.follower.OnUnreachable(answer.status().message());
}

// Reads events until the stream ends or the follower has heard enough.
asio::awaitable<void> ReadEvents(Follow& f, http::ClientStream& stream, TimePoint deadline) {
  const TimePoint begun = Now();
  LineSplitter lines(kMaxEventBytes);
  while (true) {
    const auto bytes = co_await stream.Read(deadline);
    if (co_await Cancelled()) co_return;
    if (!bytes.ok()) co_return f.follower.OnWatchEnd(Now() - begun, bytes.status().message());
    if (bytes->empty()) co_return f.follower.OnWatchEnd(Now() - begun);
    lines.Feed(*bytes);
    while (const auto line = lines.Next()) {
      if (!f.follower.OnWatchLine(*line)) co_return;
    }
    if (lines.failed()) co_return f.follower.OnWatchGarbled("a watch event is larger than 8 MiB");
    Publish(f);
  }
}

asio::awaitable<void> Watch(Follow& f, http::ClientRequest request, Duration server_timeout) {
  auto stream = co_await f.client.Start(f.origin, std::move(request), Now() + kHeadTime);
  if (co_await Cancelled()) co_return;
  if (!stream.ok()) co_return f.follower.OnUnreachable(stream.status().message());
  if ((*stream)->status() == 200) {
    co_await ReadEvents(f, **stream, Now() + server_timeout + kWatchGrace);
    co_return;
  }
  const auto body = co_await (*stream)->ReadAll(Now() + kHeadTime, kMaxErrorBytes);
  f.follower.OnWatchRefused((*stream)->status(), body.ok() ? *body : body.status().message(), RetryAfter((*stream)->headers()));
}

}  // namespace

Status FindApiServer(KubeOptions* o) {
  if (!o->api_url.empty()) {
    const auto origin = http::ParseOrigin(o->api_url);
    return origin.status().Prefixed("--kube-api");
  }
  const char* host = std::getenv("KUBERNETES_SERVICE_HOST");
  const char* port = std::getenv("KUBERNETES_SERVICE_PORT");
  if (!host || !port) {
    return Error(Code::kInvalidArgument, "--service-discovery: this is no pod of a cluster (KUBERNETES_SERVICE_HOST and _PORT are not set); "
                 "name the API server by --kube-api, for example http://127.0.0.1:8001 of `kubectl proxy`");
  }
  const bool v6 = std::string_view(host).find(':') != std::string_view::npos;
  o->api_url = fmt::format("https://{}{}{}:{}", v6 ? "[" : "", host, v6 ? "]" : "", port);
  if (o->token_file.empty()) o->token_file = std::string(kAccountFolder) + "token";
  if (o->ca_file.empty()) o->ca_file = std::string(kAccountFolder) + "ca.crt";
  return http::ParseOrigin(o->api_url).status();
}

http::ClientOptions ApiClientOptions(const KubeOptions& options) {
  http::ClientOptions client;
  client.connect_timeout = std::chrono::seconds(5);
  if (!options.ca_file.empty()) client.tls.ca_files = {options.ca_file};
  return client;
}

asio::awaitable<void> FollowPods(asio::any_io_executor executor, KubeSource source) {
  Follow f(executor, std::move(source));
  f.origin = *http::ParseOrigin(f.source.options.api_url);
  log::info("Kubernetes discovery: pods of {} at {}", f.source.options.space.empty() ? "all namespaces" : "namespace " + f.source.options.space,
            f.origin.ToString());
  while (!co_await Cancelled()) {
    const PodFollower::Request next = f.follower.Next();
    if (next.wait > Duration::zero()) co_await Pause(next.wait);
    if (co_await Cancelled()) co_return;
    auto request = MakeRequest(f, next);
    if (!request.ok()) f.follower.OnUnreachable(request.status().message());
    else if (next.watch) co_await Watch(f, std::move(*request), next.server_timeout);
    else co_await List(f, std::move(*request));
    if (co_await Cancelled()) co_return;
    Publish(f);
  }
}

}  // namespace baton::router
