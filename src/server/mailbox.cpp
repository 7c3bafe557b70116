#include "server/mailbox.h"

#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace baton::server {

std::shared_ptr<engine::OutputSink> Mailbox::MakeSink(int index) {
  class Sink : public engine::OutputSink {
   public:
    Sink(std::shared_ptr<Mailbox> box, int index) : box_(std::move(box)), index_(index) {}
    void OnOutput(const engine::Output& output) override {
      box_->Post({index_, engine::OutputRecord(output), Now()});
    }

   private:
    std::shared_ptr<Mailbox> box_;
    int index_;
  };
  return std::make_shared<Sink>(shared_from_this(), index);
}

void Mailbox::Post(Letter letter) {
  bool wake = false;
  {
    std::lock_guard lock(mutex_);
    letters_.push_back(std::move(letter));
    wake = std::exchange(waiting_, false);
  }
  if (wake) asio::post(executor_, [self = shared_from_this()] { self->timer_.cancel(); });
}

asio::awaitable<std::vector<Mailbox::Letter>> Mailbox::Take(TimePoint deadline) {
  while (true) {
    {
      std::lock_guard lock(mutex_);
      if (!letters_.empty() || Now() >= deadline) co_return std::exchange(letters_, {});
      waiting_ = true;
      // Armed before the lock is dropped: a wake-up posted from now on finds the wait below.
      timer_.expires_at(deadline);
    }
    boost::system::error_code ignored;
    co_await timer_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  }
}

}  // namespace baton::server
