// The open answer to a decode server's registration, on the prefill side. It stays open for as long as the
// pairing holds, so each side sees at once that the other died: the kernel closes what a dead process had
// open. That is also how a restarted server is told from another one of the same name.
#pragma once

#include <memory>
#include <string>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>

#include "disagg/messages.h"
#include "http/server.h"

namespace baton::disagg {

namespace asio = boost::asio;

class Lifeline : public std::enable_shared_from_this<Lifeline> {
 public:
  // `executor`: of the HTTP connection.
  explicit Lifeline(asio::any_io_executor executor, Duration pulse = kLinePulse)
      : executor_(executor), wake_(executor), pulse_(pulse) {}

  // The pairing is over: the answer ends. From any thread, also before Run.
  void End();

  // Answers with `hello`, then keeps the answer open, with a pulse now and then, until End or until the
  // other side is gone.
  asio::awaitable<void> Run(http::Responder& responder, std::string hello);

 private:
  asio::any_io_executor executor_;
  asio::steady_timer wake_;
  const Duration pulse_;
  bool ended_ = false;
};

}  // namespace baton::disagg
