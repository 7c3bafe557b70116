// One Baton server: loads the model, opens the fabric of its role, answers HTTP.
#pragma once

#include <functional>
#include <memory>
#include <string_view>

#include "common/status.h"
#include "server/options.h"

namespace baton::server {

// Told while starting: ("loading model", 0.42), ("fabric", 1) ...
using StartProgress = std::function<void(std::string_view stage, double fraction)>;

class Server {
 public:
  // Blocks until the server listens and is warm. Every failure says what to do about it.
  static Result<std::unique_ptr<Server>> Start(ServerOptions options, const StartProgress& progress);
  ~Server();

  uint16_t port() const;
  uint16_t bootstrap_port() const;  // 0 unless prefill

  // Blocks until `stop` is requested by RequestStop (async-signal-safe through an eventfd) and the
  // drain is over: health turns 503, new requests are refused, running ones finish within the
  // drain timeout.
  void Run();
  void RequestStop();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace baton::server
