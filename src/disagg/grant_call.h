// One open /baton/v1/grant request on the prefill side: frames go in from the service's strand, an
// HTTP coroutine writes them out.
#pragma once

#include <deque>
#include <memory>
#include <string>

#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>

#include "disagg/messages.h"
#include "http/server.h"

namespace baton::disagg {

namespace asio = boost::asio;

class GrantCall : public std::enable_shared_from_this<GrantCall> {
 public:
  GrantCall(asio::any_io_executor executor, Grant grant)
      : grant(std::move(grant)), executor_(executor), wake_(executor, TimePoint::max()) {}

  const Grant grant;
  transfer::PeerId peer{};   // set by the service when it accepts the call, as is the plan
  const transfer::PagePlan* plan = nullptr;  // of the service

  // From any thread.
  void Send(std::string frame, bool last) {
    asio::post(executor_, [self = shared_from_this(), frame = std::move(frame), last]() mutable {
      self->frames_.push_back(std::move(frame));
      self->ended_ = last;
      self->wake_.cancel();
    });
  }
  // Answers with an error instead of frames.
  void Reject(http::Response response) {
    asio::post(executor_, [self = shared_from_this(), response = std::move(response)]() mutable {
      self->rejection_ = std::move(response);
      self->ended_ = true;
      self->wake_.cancel();
    });
  }

  // Breaks the answer off: decode must not take it for an End.
  void Break() {
    asio::post(executor_, [self = shared_from_this()] {
      self->broken_ = true;
      self->wake_.cancel();
    });
  }
  void Wake() {
    asio::post(executor_, [self = shared_from_this()] { self->wake_.cancel(); });
  }

  // Writes until the last frame is out, the client is gone, or `limit` passes.
  asio::awaitable<void> Run(http::Responder& responder, TimePoint limit);

 private:
  asio::any_io_executor executor_;
  asio::steady_timer wake_;
  std::deque<std::string> frames_;
  std::optional<http::Response> rejection_;
  bool ended_ = false;
  bool broken_ = false;
};

}  // namespace baton::disagg
