#include "disagg/grant_call.h"

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace baton::disagg {

asio::awaitable<void> GrantCall::Run(http::Responder& responder, TimePoint limit) {
  while (!responder.disconnected() && !(broken_ && frames_.empty())) {
    if (rejection_) {
      (void)co_await responder.Send(std::move(*rejection_));
      co_return;
    }
    if (frames_.empty()) {
      if (Now() >= limit) break;
      wake_.expires_at(limit);
      boost::system::error_code ignored;
      co_await wake_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
      continue;
    }
    if (!responder.started()) {
      http::Headers headers;
      headers.Add("Content-Type", std::string(kContentType));
      if (Status s = co_await responder.BeginStream(200, std::move(headers)); !s.ok()) co_return;
    }
    const std::string frame = std::move(frames_.front());
    frames_.pop_front();
    if (Status s = co_await responder.Write(frame); !s.ok()) co_return;
    if (ended_ && frames_.empty()) {
      (void)co_await responder.EndStream();
      co_return;
    }
  }
  responder.AbortStream();
}

}  // namespace baton::disagg
