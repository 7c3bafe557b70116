// Carries engine events to the coroutine of one HTTP request. Sinks push from the engine thread (or
// a PD strand); one coroutine takes. Bounded by what the request can produce: one event a token.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>

#include "common/clock.h"
#include "engine/output_record.h"

namespace baton::server {

namespace asio = boost::asio;

class Mailbox : public std::enable_shared_from_this<Mailbox> {
 public:
  struct Letter {
    int index;  // of the sequence in the request
    engine::OutputRecord record;
    TimePoint at;
  };

  explicit Mailbox(asio::any_io_executor executor) : timer_(executor), executor_(executor) {}

  // A sink that marks its events with `index`.
  std::shared_ptr<engine::OutputSink> MakeSink(int index);
  // All letters there are; waits for the first until `deadline` (then the result is empty).
  // On the executor given at creation.
  asio::awaitable<std::vector<Letter>> Take(TimePoint deadline);

 private:
  void Post(Letter letter);

  std::mutex mutex_;
  std::vector<Letter> letters_;
  bool waiting_ = false;  // guarded by mutex_
  asio::steady_timer timer_;
  asio::any_io_executor executor_;
};

}  // namespace baton::server
