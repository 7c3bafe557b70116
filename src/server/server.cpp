#include "server/server.h"

#include <thread>

#include <sys/eventfd.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_future.hpp>

#include "common/log.h"
#include "http/body_budget.h"
#include "http/cross_site.h"
#include "server/control_handlers.h"
#include "server/generate_handler.h"
#include "server/openai_handler.h"
#include "server/reply.h"
#include "server/startup.h"

namespace baton::server {

struct Server::Impl {
  explicit Impl(std::unique_ptr<Context> context_in)
      : work(asio::make_work_guard(io)), context(std::move(context_in)), stop_fd(::eventfd(0, EFD_CLOEXEC)) {}

  ~Impl() {
    if (http) http->Stop();
    // Every request's coroutine ends when its sequences do.
    for (const RequestId id : context->active.All()) context->Abort(id);
    const TimePoint limit = Now() + 3s;
    while (http && http->OpenRequests() > 0 && Now() < limit) std::this_thread::sleep_for(10ms);
    if (http && http->OpenRequests() > 0) {
      // Its coroutine borrows what would now be destroyed: leave the process as it is.
      log::warn("A request did not end: leaving without cleaning up");
      std::_Exit(0);
    }
    if (context->prefill) context->prefill->Stop();
    if (context->decode) context->decode->Stop();
    work.reset();
    io.stop();
    for (std::thread& thread : threads) thread.join();
    ::close(stop_fd);
  }

  void AddRoutes();
  std::optional<http::Response> Screen(const http::Request& request) const;
  Status Warm();

  asio::io_context io;  // outlives all that posts to it
  asio::executor_work_guard<asio::io_context::executor_type> work;
  std::unique_ptr<Context> context;
  std::unique_ptr<http::Server> http;
  std::vector<std::thread> threads;
  int stop_fd;
};

namespace {

http::ServerOptions HttpOptions(const ServerOptions& options) {
  http::ServerOptions out;
  out.host = options.host;
  out.port = options.port;
  out.tls = options.tls;
  out.max_held_body_bytes = http::BodyBytesToHold(options.max_held_body_bytes);
  out.max_body_bytes = std::min(out.max_body_bytes, out.max_held_body_bytes);
  return out;
}

bool IsAdmin(std::string_view path) { return path == "/flush_cache" || path == "/abort_request"; }

// What changes this server is not for pages of other origins that an operator's browser shows.
bool IsForeign(const http::Request& request) {
  if (!IsAdmin(request.path) && request.path != "/baton/v1/pair") return false;
  return !http::ForeignOrigin(request).empty() || http::IsFetchedCrossSite(request);
}

bool IsGeneration(std::string_view path) {
  return path == "/generate" || path == "/v1/completions" || path == "/v1/chat/completions";
}

http::Response ErrorBody(http::Request&, int status, std::string_view message) {
  const Code code = status == 404 ? Code::kNotFound : status == 413 || status == 431 ? Code::kTooLarge
                  : status == 408 ? Code::kDeadlineExceeded : status == 503 ? Code::kResourceExhausted
                  : status >= 500 ? Code::kInternal : Code::kInvalidArgument;
  return JsonResponse(status, api::OpenAiError(Status(code, std::string(message))));
}

}  // namespace

std::optional<http::Response> Server::Impl::Screen(const http::Request& request) const {
  const ServerOptions& options = context->options;
  if (IsForeign(request)) {
    return JsonResponse(403, api::NativeError(Error(Code::kUnauthenticated, "{} is not for web pages of other origins: call it "
                                                    "without an Origin header", request.path)));
  }
  // Admin routes want the admin key where there is one.
  const std::string& key = IsAdmin(request.path) && !options.admin_api_key.empty() ? options.admin_api_key : options.api_key;
  const bool open = key.empty() || request.method == "OPTIONS" || request.path.starts_with("/health") ||
                    request.path.starts_with("/metrics");
  if (!open && !http::IsBearer(request.headers.Get("authorization"), key)) {
    return JsonResponse(401, R"({"error":"Unauthorized"})");
  }
  if (context->draining && IsGeneration(request.path)) {
    return OpenAiErrorResponse(Error(Code::kUnavailable, "this server is shutting down: send the request to another one"));
  }
  return std::nullopt;
}

void Server::Impl::AddRoutes() {
  Context& c = *context;
  for (const ControlRoute& route : ControlRoutes()) {
    http->Route(route.method, route.path, [&c, handler = route.handler](http::Request& rq, http::Responder& rs) {
      return handler(c, rq, rs);
    });
  }
  for (const char* method : {"POST", "PUT"}) {
    http->Route(method, "/generate", [&c](http::Request& rq, http::Responder& rs) { return HandleGenerate(c, rq, rs); });
  }
  http->Route("POST", "/v1/completions", [&c](http::Request& rq, http::Responder& rs) { return HandleCompletions(c, rq, rs); });
  http->Route("POST", "/v1/chat/completions", [&c](http::Request& rq, http::Responder& rs) { return HandleChat(c, rq, rs); });
  http->SetFilter([this](http::Request& rq, http::Responder&) { return Screen(rq); });
  http->SetErrorBody(ErrorBody);
}

Status Server::Impl::Warm() {
  const bool pd = context->options.mode != Mode::kNull;
  if (pd) log::info("Start of pd disaggregation warmup ...");
  auto done = asio::co_spawn(asio::make_strand(io), ProbeEngine(*context, 8, 60s), asio::use_future);
  const Status status = done.get();
  if (!status.ok()) return status.Prefixed("warm-up");
  if (pd) {
    log::info("End of {} disaggregation mode warmup with status 200, resp: 8 tokens", ModeName(context->options.mode));
  }
  return status;
}

Result<std::unique_ptr<Server>> Server::Start(ServerOptions options, const StartProgress& progress) {
  auto context = LoadContext(std::move(options), progress);
  if (!context.ok()) return context.status();
  auto server = std::make_unique<Server>();
  server->impl_ = std::make_unique<Impl>(std::move(*context));
  Impl& impl = *server->impl_;
  Context& c = *impl.context;
  for (int i = 0; i < std::max(1, c.options.io_threads); ++i) {
    impl.threads.emplace_back([&impl] { impl.io.run(); });
  }
  if (Status s = OpenRole(c, impl.io.get_executor(), progress); !s.ok()) return s;
  SetBatchLog(c);
  impl.http = std::make_unique<http::Server>(impl.io.get_executor(), HttpOptions(c.options));
  impl.AddRoutes();
  if (Status s = impl.http->Start(); !s.ok()) return s.Prefixed("HTTP");
  log::info("Listening on {}://{}:{}", c.options.tls.enabled() ? "https" : "http", c.options.host, impl.http->port());
  if (!c.options.skip_warmup) {
    progress("warm-up", 0);
    if (Status s = impl.Warm(); !s.ok()) return s;
  }
  c.ready = true;
  progress("ready", 1);
  log::info("The server is fired up and ready to roll!");
  return server;
}

Server::~Server() = default;

uint16_t Server::port() const { return impl_->http->port(); }
uint16_t Server::bootstrap_port() const {
  return impl_->context->prefill ? impl_->context->prefill->bootstrap_port() : 0;
}

void Server::RequestStop() {
  const uint64_t one = 1;
  (void)!::write(impl_->stop_fd, &one, sizeof one);
}

void Server::Run() {
  uint64_t value = 0;
  while (::read(impl_->stop_fd, &value, sizeof value) < 0 && errno == EINTR) {
  }
  Context& c = *impl_->context;
  c.draining = true;
  log::info("Draining: no new requests, {} are running", impl_->http->OpenRequests());
  impl_->http->Drain();
  const TimePoint limit = Now() + c.options.drain_timeout;
  while (impl_->http->OpenRequests() > 0 && Now() < limit) std::this_thread::sleep_for(20ms);
  if (const size_t left = impl_->http->OpenRequests()) {
    log::warn("{} requests did not finish within the drain time and are cut off", left);
  }
  log::info("Stopped");
}

}  // namespace baton::server
