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

#include "http/route_table.h"
#include "http/server.h"
#include "http/tls_context.h"

namespace baton::http {

class Connection;

class ServerCore {
 public:
  explicit ServerCore(ServerOptions options) : options_(std::move(options)) {}

  const ServerOptions& options() const { return options_; }
  RouteTable& routes() { return routes_; }
  void set_fallback(Handler handler) { fallback_ = std::move(handler); }
  void set_filter(std::function<asio::awaitable<bool>(Request&, Responder&)> filter) {
    filter_ = std::move(filter);
  }
  void set_body_gate(std::function<bool(const Request&)> wanted) { body_gate_ = std::move(wanted); }
  void set_observer(std::function<void(const Request&, const Outcome&)> observer) {
    observer_ = std::move(observer);
  }
  const auto& observer() const { return observer_; }
  void set_error_body(std::function<Response(int, std::string_view)> make) {
    error_body_ = std::move(make);
  }

  // The server's own answer for `status`; never throws.
  Response MakeError(int status, std::string_view message) const;

  // Whether anybody will look at the body of this request, whose head alone is here.
  bool WantsBody(const Request& request) const;

  // Runs filter, route or fallback. What a handler throws passes through.
  asio::awaitable<void> Handle(Request& request, Responder& responder) const;

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
  std::function<asio::awaitable<bool>(Request&, Responder&)> filter_;
  std::function<bool(const Request&)> body_gate_;
  std::function<Response(int, std::string_view)> error_body_;
  std::function<void(const Request&, const Outcome&)> observer_;
  std::unique_ptr<TlsServerContext> tls_;
  std::atomic<bool> draining_{false};
  std::atomic<size_t> open_requests_{0};
  mutable std::mutex mutex_;
  std::unordered_map<const Connection*, std::weak_ptr<Connection>> connections_;
};

}  // namespace baton::http
