#include "http/resolve.h"

#include <atomic>
#include <memory>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "http/connect_failure.h"

namespace baton::http {

namespace {

using asio::ip::tcp;

// What the look-up and its timer race for: the first to claim it resumes the waiting coroutine.
// The loser finds `handler` taken. Shared by the two callbacks, hence shared_ptr.
template <typename Handler>
struct Race {
  Race(const asio::any_io_executor& executor, Handler handler_in)
      : resolver(executor), timer(executor), handler(std::move(handler_in)) {}

  void Finish(boost::system::error_code ec, tcp::resolver::results_type results) {
    if (claimed.exchange(true)) return;
    const auto executor = asio::get_associated_executor(handler, timer.get_executor());
    asio::post(executor, [handler = std::move(handler), ec, results]() mutable {
      std::move(handler)(ec, std::move(results));
    });
  }

  tcp::resolver resolver;
  asio::steady_timer timer;
  Handler handler;
  std::atomic<bool> claimed{false};
};

template <typename Token>
auto AsyncResolve(asio::any_io_executor executor, std::string host, std::string port,
                  TimePoint deadline, Token&& token) {
  auto start = [](auto handler, const asio::any_io_executor& executor, const std::string& host,
                  const std::string& port, TimePoint deadline) {
    auto race = std::make_shared<Race<decltype(handler)>>(executor, std::move(handler));
    race->timer.expires_at(deadline);
    race->timer.async_wait([race](const boost::system::error_code& ec) {
      if (!ec) race->Finish(asio::error::timed_out, {});
    });
    // Last, because its callback may run at once on another thread and touches the timer.
    race->resolver.async_resolve(
        host, port, tcp::resolver::numeric_service,
        [race](const boost::system::error_code& ec, tcp::resolver::results_type results) {
          race->Finish(ec, std::move(results));
          race->timer.cancel();
        });
  };
  return asio::async_initiate<Token, void(boost::system::error_code, tcp::resolver::results_type)>(
      std::move(start), token, executor, std::move(host), std::move(port), deadline);
}

}  // namespace

asio::awaitable<Result<std::vector<tcp::endpoint>>> Resolve(asio::any_io_executor executor,
                                                            const Origin& origin,
                                                            TimePoint deadline) {
  std::vector<tcp::endpoint> endpoints;
  boost::system::error_code ec;
  const auto address = asio::ip::make_address(origin.host, ec);
  if (!ec) {
    endpoints.emplace_back(address, origin.port);
    co_return endpoints;
  }
  const auto [error, results] =
      co_await AsyncResolve(executor, origin.host, std::to_string(origin.port), deadline,
                            asio::as_tuple(asio::use_awaitable));
  if (error == asio::error::timed_out)
    co_return Error(Code::kUnreachable, "{}: the host name was not resolved in time",
                    origin.ToString());
  if (error) {
    // The resolver does not say that it had no descriptor for its question.
    if (Status lack = DescriptorShortage(origin); !lack.ok()) co_return lack;
    co_return Error(Code::kUnreachable, "{}: cannot resolve the host name: {}", origin.ToString(),
                    error.message());
  }
  for (const auto& entry : results) endpoints.push_back(entry.endpoint());
  if (endpoints.empty())
    co_return Error(Code::kUnreachable, "{}: the host name has no address", origin.ToString());
  co_return endpoints;
}

}  // namespace baton::http
