#include "router/discovery/background.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "common/log.h"

namespace baton::router {

Background::Background(const asio::any_io_executor& executor, std::string name,
                       std::function<asio::awaitable<void>()> run)
    : strand_(asio::make_strand(executor)), cancel_(std::make_shared<asio::cancellation_signal>()) {
  auto body = [](std::function<asio::awaitable<void>()> run) -> asio::awaitable<void> {
    co_await asio::this_coro::throw_if_cancelled(false);
    co_await run();
  };
  asio::co_spawn(strand_, body(std::move(run)),
                 asio::bind_cancellation_slot(cancel_->slot(), [name = std::move(name), keep = cancel_](std::exception_ptr error) {
                   if (error) log::error("router: {} ended by an exception", name);
                 }));
}

void Background::Stop() {
  asio::post(strand_, [cancel = cancel_] { cancel->emit(asio::cancellation_type::terminal); });
}

asio::awaitable<bool> Cancelled() {
  co_return (co_await asio::this_coro::cancellation_state).cancelled() != asio::cancellation_type::none;
}

asio::awaitable<void> Pause(Duration time) {
  if (co_await Cancelled()) co_return;
  asio::steady_timer timer(co_await asio::this_coro::executor, time);
  co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
}

}  // namespace baton::router
