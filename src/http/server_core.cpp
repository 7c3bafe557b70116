#include "http/server_core.h"

#include "common/log.h"

namespace baton::http {

Response ServerCore::MakeError(Request& request, int status, std::string_view message) const {
  Response response;
  try {
    if (error_body_) response = error_body_(request, status, message);
  } catch (const std::exception& e) {
    log::error("http: making the body of an error failed: {}", e.what());
  }
  if (!error_body_) {
    response.headers.Add("Content-Type", "text/plain; charset=utf-8");
    response.body.assign(message).push_back('\n');
  }
  response.status = status;
  if (status == 503) response.headers.Set("Retry-After", "1");
  return response;
}

std::optional<Response> ServerCore::Screen(Request& request, Responder& responder) const {
  if (!filter_) return std::nullopt;
  try {
    return filter_(request, responder);
  } catch (const std::exception& e) {
    log::error("http: the filter threw at {} {}: {}", request.method, request.path, e.what());
    return MakeError(request, 500, "the request could not be looked at");
  }
}

bool ServerCore::HasRoute(const Request& request) const {
  return fallback_ || routes_.Find(request.method, request.path).handler;
}

asio::awaitable<void> ServerCore::Handle(Request& request, Responder& responder) const {
  const RouteTable::Match match = routes_.Find(request.method, request.path);
  if (match.handler) {
    co_await (*match.handler)(request, responder);
  } else if (fallback_) {
    co_await fallback_(request, responder);
  } else {
    Response response =
        match.path_known
            ? MakeError(request, 405, fmt::format("{} is not allowed for {}", request.method, request.path))
            : MakeError(request, 404, fmt::format("no such path: {}", request.path));
    if (match.path_known) response.headers.Set("Allow", match.allow);
    (void)co_await responder.Send(std::move(response));
  }
}

bool ServerCore::Register(const std::shared_ptr<Connection>& connection) {
  const std::lock_guard lock(mutex_);
  if (connections_.size() >= options_.max_connections) return false;
  connections_.emplace(connection.get(), connection);
  return true;
}

void ServerCore::Unregister(const Connection* connection) {
  const std::lock_guard lock(mutex_);
  connections_.erase(connection);
}

size_t ServerCore::connection_count() const {
  const std::lock_guard lock(mutex_);
  return connections_.size();
}

std::vector<std::shared_ptr<Connection>> ServerCore::Connections() const {
  std::vector<std::shared_ptr<Connection>> all;
  const std::lock_guard lock(mutex_);
  all.reserve(connections_.size());
  for (const auto& [key, weak] : connections_) {
    if (auto connection = weak.lock()) all.push_back(std::move(connection));
  }
  return all;
}

}  // namespace baton::http
