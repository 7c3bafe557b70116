// Idle connections by origin, newest first out. Thread-safe.
//
// One timer sweeps what has been idle too long; it stays armed only while something is idle.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include <boost/asio/steady_timer.hpp>

#include "http/client_connection.h"
#include "http/tls_context.h"

namespace baton::http {

class ClientPool : public std::enable_shared_from_this<ClientPool> {
 public:
  // `tls`: may be shared with other pools.
  ClientPool(asio::any_io_executor executor, ClientOptions options, std::shared_ptr<TlsClientContext> tls);

  const asio::any_io_executor& executor() const { return executor_; }
  const ClientOptions& options() const { return options_; }
  const std::shared_ptr<TlsClientContext>& tls() const { return tls_; }

  // A connection that still looks alive, or nullptr. `idle_for` tells for how long it lay here.
  std::shared_ptr<ClientConnection> Take(const Origin& origin, Duration* idle_for);
  // Closes it instead when the origin has enough of them or the pool is closed.
  void Put(std::shared_ptr<ClientConnection> connection);
  void CloseIdle();
  // Those of one origin: one of them turned out to be dead without having looked so.
  void Distrust(const Origin& origin);
  // As CloseIdle, and nothing is kept from now on.
  void Close();

 private:
  struct Idle {
    std::shared_ptr<ClientConnection> connection;
    TimePoint since;
  };

  void ArmSweepLocked();
  void Sweep();

  const asio::any_io_executor executor_;
  const ClientOptions options_;
  const std::shared_ptr<TlsClientContext> tls_;
  std::mutex mutex_;
  std::map<Origin, std::vector<Idle>> idle_;
  asio::steady_timer sweep_;
  bool sweep_armed_ = false;
  bool closed_ = false;
};

}  // namespace baton::http
