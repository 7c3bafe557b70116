#include "disagg/heartbeat.h"

#include <memory>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "common/bytes.h"
#include "http/resolve.h"

namespace baton::disagg {

namespace asio = boost::asio;

Beat JudgeBeat(int http_status, std::string_view body, uint64_t instance) {
  if (http_status == 409) return Beat::kRestarted;
  if (http_status != 200) return Beat::kMissed;
  ByteReader reader(body);
  const auto answering = reader.Get<uint64_t>();
  if (reader.failed()) return Beat::kMissed;
  return answering == instance ? Beat::kAlive : Beat::kRestarted;
}

asio::awaitable<bool> IsRefused(http::Origin origin, TimePoint deadline) {
  const auto executor = co_await asio::this_coro::executor;
  const auto endpoints = co_await http::Resolve(executor, origin, deadline);
  if (!endpoints.ok()) co_return false;
  // Shared: an alarm that has gone off may be handled after we have returned.
  const auto socket = std::make_shared<asio::ip::tcp::socket>(executor);
  asio::steady_timer alarm(executor, deadline);
  alarm.async_wait([socket](boost::system::error_code error) {
    boost::system::error_code ignored;
    if (!error) socket->close(ignored);
  });
  for (const auto& endpoint : *endpoints) {
    boost::system::error_code error;
    socket->close(error);
    co_await socket->async_connect(endpoint, asio::redirect_error(asio::use_awaitable, error));
    if (error != asio::error::connection_refused) co_return false;
  }
  co_return !endpoints->empty();
}

}  // namespace baton::disagg
