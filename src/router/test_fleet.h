// For the router's tests: workers that do what a test tells them, a router in front of them, and a
// client. All on real sockets. Every wait ends after http::test::kPatience.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "common/json.h"
#include "http/event_loops.h"
#include "http/sse.h"
#include "http/test_support.h"
#include "router/router.h"

namespace baton::router::test {

namespace asio = boost::asio;

using http::test::Eventually;
using http::test::Loop;
using http::test::RawSocket;
using http::test::Sleep;

// What a worker does with a POST. Runs on the connection's strand.
using Script = std::function<asio::awaitable<void>(http::Request&, http::Responder&)>;

inline Script AnswerJson(int status, std::string body) {
  return [=](http::Request&, http::Responder& responder) -> asio::awaitable<void> {
    http::Response response;
    response.status = status;
    response.headers.Set("Content-Type", "application/json");
    response.body = body;
    (void)co_await responder.Send(std::move(response));
  };
}

enum class Ending { kDone, kClean, kBroken, kSilent };

// Waits until the client has gone, at most kPatience.
inline asio::awaitable<void> AwaitDisconnect(http::Responder& responder) {
  const TimePoint end = Now() + http::test::kPatience;
  while (!responder.disconnected() && Now() < end) co_await Sleep(1ms);
}

// Sends `pieces` of an event stream as they are, each in a write of its own.
inline Script AnswerPieces(std::vector<std::string> pieces, Ending ending, Duration gap = 1ms) {
  return [=](http::Request&, http::Responder& responder) -> asio::awaitable<void> {
    http::Headers headers;
    headers.Set("Content-Type", "text/event-stream");
    (void)co_await responder.BeginStream(200, headers);
    for (const std::string& piece : pieces) {
      (void)co_await responder.Write(piece);
      co_await Sleep(gap);
    }
    if (ending == Ending::kDone) (void)co_await responder.Write(http::kSseDone);
    if (ending == Ending::kSilent) co_await AwaitDisconnect(responder);
    if (ending == Ending::kBroken) responder.AbortStream();
    else (void)co_await responder.EndStream();
  };
}

inline Script AnswerStream(std::vector<std::string> payloads, Ending ending = Ending::kDone) {
  std::vector<std::string> events;
  for (const std::string& payload : payloads) events.push_back(http::SseEvent(payload));
  return AnswerPieces(std::move(events), ending);
}

// No answer until the client goes away.
inline Script Hang() {
  return [](http::Request&, http::Responder& responder) -> asio::awaitable<void> {
    co_await AwaitDisconnect(responder);
  };
}

// Closes the connection without an answer.
inline Script Die() {
  return [](http::Request&, http::Responder& responder) -> asio::awaitable<void> {
    responder.AbortStream();
    co_return;
  };
}

inline Script After(Duration delay, Script script) {
  return [=](http::Request& request, http::Responder& responder) -> asio::awaitable<void> {
    co_await Sleep(delay);
    co_await script(request, responder);
  };
}

class FakeWorker {
 public:
  // `mode`: its disaggregation_mode; "": it does not tell. `baton`: it says that it is a Baton server.
  explicit FakeWorker(Loop& loop, uint16_t port = 0, http::ServerTlsOptions tls = {}, std::string_view mode = "",
                      bool baton = false)
      : state_(std::make_shared<State>()), scheme_(tls.enabled() ? "https" : "http") {
    TellRole(mode, baton);
    http::ServerOptions options;
    options.port = port;
    options.tls = std::move(tls);
    options.max_body_bytes = size_t{256} << 20;
    server_ = std::make_unique<http::Server>(loop.executor(), options);
    const auto state = state_;
    for (const char* path : {"/generate", "/v1/chat/completions", "/v1/completions", "/v1/rerank"}) {
      server_->Route("POST", path, [state](http::Request& request, http::Responder& responder) -> asio::awaitable<void> {
        Script script;
        {
          std::lock_guard lock(state->mutex);
          state->bodies.push_back(request.body);
          state->headers.push_back(request.headers);
          script = state->script;
        }
        responder.OnDisconnect([state] {
          ++state->disconnects;
          state->last_disconnect = Now();
        });
        co_await script(request, responder);
      });
    }
    const auto fixed = [&](const char* path, std::function<http::Response()> make) {
      server_->Route("*", path, [make](http::Request&, http::Responder& responder) -> asio::awaitable<void> {
        (void)co_await responder.Send(make());
      });
    };
    fixed("/health", [state] {
      ++state->probes;
      http::Response response;
      response.status = state->health;
      return response;
    });
    const auto json_route = [&](const char* path, std::string body) {
      fixed(path, [body] {
        http::Response response;
        response.body = body;
        return response;
      });
    };
    fixed("/server_info", [state] {
      ++state->questions;
      std::lock_guard lock(state->mutex);
      http::Response response;
      response.status = state->info.empty() ? 503 : 200;
      response.body = state->info;
      return response;
    });
    fixed("/baton/v1/pair", [state] {
      ++state->pairs;
      return http::Response{};
    });
    json_route("/model_info", R"({"model_path":"tiny"})");
    json_route("/v1/models", R"({"object":"list","data":[{"id":"tiny"}]})");
    fixed("/flush_cache", [state] {
      ++state->flushes;
      return http::Response{.body = "ok"};
    });
    fixed("/get_load", [state] {
      std::lock_guard lock(state->mutex);
      http::Response response;
      response.body = state->load;
      return response;
    });
    json_route("/health_generate", "");
    json_route("/v1/tokenize", R"({"tokens":[1],"count":1})");
    json_route("/metrics", "up 1\n");
    const Status started = server_->Start();
    EXPECT_TRUE(started.ok()) << started.ToString();
    port_ = server_->port();
  }
  ~FakeWorker() { Kill(); }

  void Set(Script script) {
    std::lock_guard lock(state_->mutex);
    state_->script = std::move(script);
  }
  void SetHealth(int status) { state_->health = status; }
  // The body of GET /server_info; "" is a 503.
  void SetInfo(std::string body) {
    std::lock_guard lock(state_->mutex);
    state_->info = std::move(body);
  }
  void TellRole(std::string_view mode, bool baton = false) {
    SetInfo(R"({"served_model_name":"tiny","tp_size":1,"disaggregation_bootstrap_port":4321,"version":7)" +
            std::string(baton ? R"(,"baton_version":"0.1")" : "") +
            (mode.empty() ? "}" : fmt::format(R"(,"disaggregation_mode":"{}"}})", mode)));
  }
  // How often /server_info was asked.
  int questions() const { return state_->questions; }
  // How often it was introduced to a prefill server.
  int pairs() const { return state_->pairs; }
  int flushes() const { return state_->flushes; }
  // The body of GET /get_load.
  void SetLoad(std::string body) {
    std::lock_guard lock(state_->mutex);
    state_->load = std::move(body);
  }
  // Closes the listener and all connections, as a killed process would.
  void Kill() {
    if (server_) server_->Stop();
    server_.reset();
  }

  std::string url() const { return fmt::format("{}://127.0.0.1:{}", scheme_, port_); }
  uint16_t port() const { return port_; }
  size_t requests() const {
    std::lock_guard lock(state_->mutex);
    return state_->bodies.size();
  }
  std::string body(size_t i) const {
    std::lock_guard lock(state_->mutex);
    return i < state_->bodies.size() ? state_->bodies[i] : std::string();
  }
  http::Headers headers(size_t i) const {
    std::lock_guard lock(state_->mutex);
    return i < state_->headers.size() ? state_->headers[i] : http::Headers();
  }
  int disconnects() const { return state_->disconnects; }
  int probes() const { return state_->probes; }
  TimePoint last_disconnect() const { return state_->last_disconnect; }

 private:
  struct State {
    mutable std::mutex mutex;
    Script script = AnswerJson(200, "{}");
    std::string info;
    std::string load = R"([{"dp_rank":0,"num_tokens":5},{"dp_rank":1,"num_tokens":6}])";
    std::vector<std::string> bodies;
    std::vector<http::Headers> headers;
    std::atomic<int> health{200};
    std::atomic<int> disconnects{0};
    std::atomic<int> probes{0};
    std::atomic<int> questions{0};
    std::atomic<int> pairs{0};
    std::atomic<int> flushes{0};
    std::atomic<TimePoint> last_disconnect{TimePoint{}};
  };
  std::shared_ptr<State> state_;
  const char* scheme_;
  std::unique_ptr<http::Server> server_;
  uint16_t port_ = 0;
};

// A PD router with `prefills` and `decodes` workers, ready.
class Fleet {
 public:
  explicit Fleet(size_t prefills = 1, size_t decodes = 1, const std::function<void(RouterOptions&)>& change = {},
                 bool wait_ready = true)
      : loop_(2), client_(loop_.executor(), {}) {
    options_.host = "127.0.0.1";
    options_.port = 0;
    options_.prometheus_port = -1;
    options_.pd_disaggregation = true;
    options_.retry.initial_backoff = 5ms;
    // Tests of attempts count on requests going round; tests of other policies say so.
    options_.prefill_policy = options_.decode_policy = PolicyKind::kRoundRobin;
    for (size_t i = 0; i < prefills; ++i) {
      prefill.push_back(std::make_unique<FakeWorker>(loop_, uint16_t{0}, http::ServerTlsOptions{}, "prefill"));
      options_.prefill.push_back({prefill.back()->url(), static_cast<uint16_t>(9000 + i)});
    }
    for (size_t i = 0; i < decodes; ++i) {
      decode.push_back(std::make_unique<FakeWorker>(loop_, uint16_t{0}, http::ServerTlsOptions{}, "decode"));
      options_.decode.push_back(decode.back()->url());
    }
    if (change) change(options_);
    router_thread_ = std::thread([this] { router_loops_.Run(); });
    auto started = Router::Start(router_loops_.main().get_executor(), options_, router_loops_.executors());
    EXPECT_TRUE(started.ok()) << started.status().ToString();
    router = std::move(*started);
    if (wait_ready) {
      EXPECT_TRUE(AllHealthy(prefills + decodes));
    }
  }
  ~Fleet() {
    router.reset();
    router_loops_.Stop();
    router_thread_.join();
  }

  bool AllHealthy(size_t count) {
    const std::string wanted = fmt::format("\"healthy_workers\":{},", count);
    return Eventually([&] { return Get("/readiness").body.find(wanted) != std::string::npos; });
  }

  http::Origin origin() const { return {false, "127.0.0.1", router->port()}; }

  http::Response Fetch(std::string method, std::string target, std::string body = "", http::Headers headers = {}) {
    http::ClientRequest request;
    request.method = std::move(method);
    request.target = std::move(target);
    request.body = std::move(body);
    request.headers = std::move(headers);
    if (!request.body.empty() && !request.headers.Has("Content-Type")) {
      request.headers.Set("Content-Type", "application/json");
    }
    auto response = loop_.Run(client_.Fetch(origin(), std::move(request), Now() + http::test::kPatience, size_t{256} << 20));
    EXPECT_TRUE(response.ok()) << response.status().ToString();
    return response.ok() ? std::move(*response) : http::Response{.status = 0};
  }
  http::Response Get(std::string target) { return Fetch("GET", std::move(target)); }
  http::Response Post(std::string target, std::string body) { return Fetch("POST", std::move(target), std::move(body)); }

  // A client that sends and then does what the test says with its socket.
  RawSocket Send(std::string_view path, std::string_view body) {
    RawSocket socket = RawSocket::Connect(router->port());
    EXPECT_TRUE(socket.Send(fmt::format("POST {} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{}",
                                        path, body.size(), body)));
    return socket;
  }

  double Metric(const std::string& series) {
    const std::string text = Get("/metrics").body;
    const size_t at = text.find("\n" + series + " ");
    return at == std::string::npos ? 0 : std::stod(text.substr(at + series.size() + 2));
  }

  Loop& loop() { return loop_; }
  RouterOptions& options() { return options_; }

 private:
  http::EventLoops router_loops_{2};  // as `baton router` runs it
  std::thread router_thread_;
  Loop loop_;  // of workers and clients
  http::Client client_;
  RouterOptions options_;

 public:
  std::vector<std::unique_ptr<FakeWorker>> prefill, decode;
  std::unique_ptr<Router> router;
};

inline std::vector<std::string> Payloads(std::string_view stream) {
  http::SseParser parser;
  parser.Feed(stream);
  std::vector<std::string> out;
  while (auto payload = parser.Next()) out.push_back(*payload);
  return out;
}

inline std::string ErrorCode(const http::Response& response) {
  const auto parsed = json::Parse(response.body);
  if (!parsed.ok() || !parsed->is_object() || !parsed->as_object().contains("error")) return "(no error object)";
  return std::string(parsed->at("error").at("code").get_string());
}

}  // namespace baton::router::test
