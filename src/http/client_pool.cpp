#include "http/client_pool.h"

namespace baton::http {

ClientPool::ClientPool(asio::any_io_executor executor, ClientOptions options,
                       std::shared_ptr<TlsClientContext> tls)
    : executor_(std::move(executor)),
      options_(std::move(options)),
      tls_(std::move(tls)),
      sweep_(executor_) {}

std::shared_ptr<ClientConnection> ClientPool::Take(const Origin& origin, Duration* idle_for) {
  while (true) {
    Idle idle;
    {
      const std::lock_guard lock(mutex_);
      const auto found = idle_.find(origin);
      if (found == idle_.end() || found->second.empty()) return nullptr;
      idle = std::move(found->second.back());
      found->second.pop_back();
    }
    *idle_for = Now() - idle.since;
    if (*idle_for < options_.idle_timeout && !idle.connection->Stale())
      return std::move(idle.connection);
    idle.connection->Close();
  }
}

void ClientPool::Put(std::shared_ptr<ClientConnection> connection) {
  const std::lock_guard lock(mutex_);
  auto& of_origin = idle_[connection->origin()];
  if (closed_ || of_origin.size() >= options_.max_idle_per_origin) return connection->Close();
  of_origin.push_back({std::move(connection), Now()});
  if (!sweep_armed_) ArmSweepLocked();
}

void ClientPool::ArmSweepLocked() {
  sweep_armed_ = true;
  sweep_.expires_after(options_.idle_timeout / 2 + std::chrono::milliseconds(1));
  sweep_.async_wait([weak = weak_from_this()](const boost::system::error_code& ec) {
    if (ec) return;
    if (const auto self = weak.lock()) self->Sweep();
  });
}

void ClientPool::Sweep() {
  const std::lock_guard lock(mutex_);
  sweep_armed_ = false;
  const TimePoint now = Now();
  for (auto it = idle_.begin(); it != idle_.end();) {
    std::erase_if(it->second, [&](Idle& idle) {
      if (now - idle.since < options_.idle_timeout && !idle.connection->Stale()) return false;
      idle.connection->Close();
      return true;
    });
    it = it->second.empty() ? idle_.erase(it) : std::next(it);
  }
  if (!idle_.empty() && !closed_) ArmSweepLocked();
}

void ClientPool::Distrust(const Origin& origin) {
  const std::lock_guard lock(mutex_);
  const auto found = idle_.find(origin);
  if (found == idle_.end()) return;
  for (const Idle& idle : found->second) idle.connection->Close();
  idle_.erase(found);
}

void ClientPool::CloseIdle() {
  const std::lock_guard lock(mutex_);
  for (const auto& [origin, connections] : idle_) {
    for (const Idle& idle : connections) idle.connection->Close();
  }
  idle_.clear();
  sweep_.cancel();
  sweep_armed_ = false;
}

void ClientPool::Close() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  CloseIdle();
}

}  // namespace baton::http
