// The meeting point of one client request: its own coroutine waits here for whatever comes first,
// an answer or failure of a worker, the client's disconnect, or a deadline.
//
// Everything runs on the connection's strand, so there are no locks. Kept alive by shared_ptr,
// because worker coroutines may finish after the client's handler has returned.
#pragma once

#include <functional>
#include <memory>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "common/clock.h"

namespace baton::router {

namespace asio = boost::asio;

class Exchange {
 public:
  explicit Exchange(const asio::any_io_executor& executor) : executor_(executor), timer_(executor) {}

  const asio::any_io_executor& executor() const { return executor_; }

  // Something changed: ends the present or the next Wait.
  void Notify() {
    changed_ = true;
    timer_.cancel();
  }
  // Until Notify or the deadline. The caller looks at the state itself.
  asio::awaitable<void> Wait(TimePoint until) {
    if (!changed_ && Now() < until) {
      timer_.expires_at(until);
      co_await timer_.async_wait(asio::as_tuple(asio::use_awaitable));
    }
    changed_ = false;
  }

  void OnClientGone() {
    client_gone_ = true;
    if (on_client_gone_) on_client_gone_();
    Notify();
  }
  bool client_gone() const { return client_gone_; }
  // Runs when the client goes away; nullptr for none.
  void SetClientGone(std::function<void()> callback) { on_client_gone_ = std::move(callback); }

 private:
  asio::any_io_executor executor_;
  asio::steady_timer timer_;
  bool changed_ = false;
  bool client_gone_ = false;
  std::function<void()> on_client_gone_;
};

}  // namespace baton::router
