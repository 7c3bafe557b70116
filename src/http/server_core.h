// What all connections of one server share: options, routes, error bodies, counters, and the list
// of connections that Drain and Stop walk. Thread-safe; routes and callbacks are fixed before the
// server starts.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "http/body_budget.h"
#include "http/route_table.h"
#include "http/server.h"
#include "http/tls_context.h"

namespace baton::http {

class Connection;

class ServerCore {
 public:
  explicit ServerCore(ServerOptions options) : options_(std::move(options)), bodies_(options_.max_held_body_bytes) {}

  const ServerOptions& options() const { return options_; }
  RouteTable& routes() { return routes_; }
  void set_fallback(Handler handler) { fallback_ = std::move(handler); }
  void set_filter(Filter filter) { filter_ = std::move(filter); }
  void set_observer(std::function<void(const Request&, const Outcome&)> observer) {
    observer_ = std::move(observer);
  }
  const auto& observer() const { return observer_; }
  void set_error_body(std::function<Response(Request&, int, std::string_view)> make) {
    error_body_ = std::move(make);
  }

  // The server's own answer for `status`; never throws.
  Response MakeError(Request& request, int status, std::string_view message) const;

  // The filter's answer, if it has one; never throws.
  std::optional<Response> Screen(Request& request, Responder& responder) const;
  bool HasRoute(const Request& request) const;
  // Runs route or fallback. What a handler throws passes through.
  asio::awaitable<void> Handle(Request& request, Responder& responder) const;

  BodyBudget& bodies() { return bodies_; }

  bool draining() const { return draining_.load(std::memory_order_relaxed); }
  void StartDraining() { draining_.store(true); }
  void RequestOpened() { open_requests_.fetch_add(1, std::memory_order_relaxed); }
  void RequestClosed() { open_requests_.fetch_sub(1, std::memory_order_relaxed); }
  size_t open_requests() const { return open_requests_.load(); }

  // False when max_connections are there already.
  bool Register(const std::shared_ptr<Connection>& connection);
  void Unregister(const Connection* connection);
  std::vector<std::shared_ptr<Connection>> Connections() const;
  size_t connection_count() const;

  // The listener's TLS; nullptr for plain HTTP. Set before the server starts.
  TlsServerContext* tls() const { return tls_.get(); }
  void set_tls(std::unique_ptr<TlsServerContext> tls) { tls_ = std::move(tls); }

 private:
  const ServerOptions options_;
  RouteTable routes_;
  Handler fallback_;
  Filter filter_;
  std::function<Response(Request&, int, std::string_view)> error_body_;
  std::function<void(const Request&, const Outcome&)> observer_;
  std::unique_ptr<TlsServerContext> tls_;
  BodyBudget bodies_;
  std::atomic<bool> draining_{false};
  std::atomic<size_t> open_requests_{0};
  mutable std::mutex mutex_;
  std::unordered_map<const Connection*, std::weak_ptr<Connection>> connections_;
};

}  // namespace baton::http
