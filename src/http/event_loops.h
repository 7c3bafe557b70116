// One event loop per thread. A connection stays on the loop that it was given to (ServerOptions::
// loops), and so do the requests to other servers that its handler makes (Client): no lock is
// fought for and no thread has to wake another one, which is most of what a small event costs.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>

namespace baton::http {

namespace asio = boost::asio;

class EventLoops {
 public:
  explicit EventLoops(size_t count);  // at least 1
  // After Run has returned. What coroutines hold of one loop may be held by those of another, so
  // all loops drop their coroutines before any of them goes.
  ~EventLoops();
  EventLoops(const EventLoops&) = delete;
  EventLoops& operator=(const EventLoops&) = delete;

  // The first loop, for acceptors, signals and background work.
  asio::io_context& main();
  std::vector<asio::any_io_executor> executors();

  // Until Stop. The caller's thread runs the first loop, a thread each the others.
  void Run();
  void Stop();  // any thread

 private:
  // Destroys pending operations early; the base class calls it again.
  struct Loop : asio::io_context {
    Loop() : asio::io_context(1), work(get_executor()) {}
    void DropAll() { shutdown(); }
    asio::executor_work_guard<executor_type> work;
  };

  std::vector<std::unique_ptr<Loop>> loops_;
};

}  // namespace baton::http
