// A coroutine that runs beside the requests until it is stopped: on a strand of its own, cancelled
// from any thread. Everything that it awaits must end when it is cancelled.
#pragma once

#include <functional>
#include <memory>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/strand.hpp>

#include "common/clock.h"

namespace baton::router {

namespace asio = boost::asio;

class Background {
 public:
  // Starts `run`, which is kept for as long as its coroutine lives. `name` is for the log.
  Background(const asio::any_io_executor& executor, std::string name,
             std::function<asio::awaitable<void>()> run);
  ~Background() { Stop(); }
  Background(const Background&) = delete;
  Background& operator=(const Background&) = delete;

  // Returns at once; the coroutine ends soon after. Safe to call twice.
  void Stop();

 private:
  const asio::strand<asio::any_io_executor> strand_;
  const std::shared_ptr<asio::cancellation_signal> cancel_;  // shared with the coroutine's end
};

// For such coroutines. True when the caller was cancelled; never throws.
asio::awaitable<bool> Cancelled();
// At most `time`; ends early when cancelled.
asio::awaitable<void> Pause(Duration time);

}  // namespace baton::router
