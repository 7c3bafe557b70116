#include "disagg/lifeline.h"

#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace baton::disagg {

void Lifeline::End() {
  asio::post(executor_, [self = shared_from_this()] {
    self->ended_ = true;
    self->wake_.cancel();
  });
}

asio::awaitable<void> Lifeline::Run(http::Responder& responder, std::string hello) {
  responder.OnDisconnect([self = shared_from_this()] { self->wake_.cancel(); });
  http::Headers headers;
  headers.Add("Content-Type", std::string(kContentType));
  Status status = co_await responder.BeginStream(200, std::move(headers));
  if (status.ok()) status = co_await responder.Write(hello);
  while (status.ok() && !ended_ && !responder.disconnected()) {
    wake_.expires_after(pulse_);
    boost::system::error_code error;
    co_await wake_.async_wait(asio::redirect_error(asio::use_awaitable, error));
    if (!error) status = co_await responder.Write(kPulse);
  }
  responder.OnDisconnect(nullptr);
  responder.AbortStream();
}

}  // namespace baton::disagg
