// Whole prefill and decode sides in one process for tests: an engine with a fake model, the service on
// threads of its own, the bootstrap port on loopback TCP, KV over an in-process network.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include <gtest/gtest.h>

#include "disagg/decode.h"
#include "disagg/prefill.h"
#include "engine/engine_harness.h"
#include "http/test_support.h"
#include "transfer/loopback/loopback.h"

namespace baton::disagg::test {

inline LinkOptions MakeLink(std::shared_ptr<transfer::LoopbackNetwork> network, std::string name) {
  LinkOptions link;
  link.name = std::move(name);
  link.model = "fake";
  link.fabric.provider = transfer::ProviderKind::kLoopback;
  link.fabric.loopback = std::move(network);
  link.fabric.self_test = false;
  link.heartbeat_interval = 50ms;
  return link;
}

// Threads of one server; they end before it, it ends before their io_context.
class Threads {
 public:
  Threads() : work_(context_.get_executor()) {
    for (int i = 0; i < 2; ++i) threads_.emplace_back([this] { context_.run(); });
  }
  ~Threads() { Join(); }
  asio::any_io_executor executor() { return context_.get_executor(); }
  void Join() {
    context_.stop();
    for (auto& thread : threads_) thread.join();
    threads_.clear();
  }

 private:
  asio::io_context context_;
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  std::vector<std::thread> threads_;
};

// One server. Destroying it ends it in good order.
template <typename Service, typename Options>
class Side {
 public:
  explicit Side(Options options)
      : engine_(engine::MakeFakeEngine(engine::SmallOptions())), threads_(std::make_unique<Threads>()) {
    auto service = Service::Start(threads_->executor(), *engine_, std::move(options));
    EXPECT_TRUE(service.ok()) << service.status().ToString();
    service_ = *std::move(service);
  }
  ~Side() {
    if (service_) service_->Stop();
    End();
  }

  // kill -9, as others see it: its sockets close, it says nothing more (not even that it sees its own network gone).
  void Kill(transfer::LoopbackNetwork& network) {
    if (threads_) threads_->Join();
    network.Kill(address());
    End();
  }

  Service* operator->() { return service_.get(); }
  engine::Engine& engine() { return *engine_; }
  // Of its endpoint in the network.
  const std::string& address() const { return service_->fabric().rails.at(0); }
  api::Bootstrap At(int64_t room) const requires std::is_same_v<Service, PrefillService> {
    return {"127.0.0.1", service_->bootstrap_port(), room};
  }

 private:
  void End() {
    if (threads_) threads_->Join();
    service_.reset();
    threads_.reset();
  }

  std::unique_ptr<engine::Engine> engine_;
  std::unique_ptr<Threads> threads_;
  std::unique_ptr<Service> service_;
};

using PrefillSide = Side<PrefillService, PrefillOptions>;
using DecodeSide = Side<DecodeService, DecodeOptions>;

inline PrefillOptions PrefillOf(LinkOptions link) { return {std::move(link), "127.0.0.1", 0}; }
inline DecodeOptions DecodeOf(LinkOptions link) { return {std::move(link), 8998}; }

// What became of a Pair().
class Pairing {
 public:
  Pairing(DecodeSide& decode, const api::Bootstrap& prefill) {
    const Status begun = decode->Pair(prefill, [state = state_](Status status) {
      const std::lock_guard lock(state->mutex);
      state->status = std::move(status);
      state->changed.notify_all();
    });
    EXPECT_TRUE(begun.ok()) << begun.ToString();
  }
  bool over() const {
    const std::lock_guard lock(state_->mutex);
    return state_->status.has_value();
  }
  Status Wait() const {
    std::unique_lock lock(state_->mutex);
    if (!state_->changed.wait_for(lock, http::test::kPatience, [&] { return state_->status.has_value(); })) {
      return Error(Code::kInternal, "Pair does not end");
    }
    return *state_->status;
  }

 private:
  struct State {
    std::mutex mutex;
    std::condition_variable changed;
    std::optional<Status> status;
  };
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

// One half of a request, given to one side.
template <typename SideType>
std::shared_ptr<engine::Recorder> Ask(SideType& side, const api::Bootstrap& at, std::vector<int32_t> prompt,
                                      int max_new_tokens = 4) {
  auto sink = std::make_shared<engine::Recorder>();
  auto request = engine::GreedyRequest(side.engine(), std::move(prompt), max_new_tokens, sink);
  Status status;
  if constexpr (std::is_same_v<SideType, DecodeSide>) {
    status = side->Submit(std::move(request), at, false, nullptr);
  } else {
    status = side->Submit(std::move(request), at);
  }
  EXPECT_TRUE(status.ok()) << status.ToString();
  return sink;
}

// A whole request; true when its tokens are right.
inline bool Serves(PrefillSide& prefill, DecodeSide& decode, int64_t room) {
  const auto prompt = engine::Prompt(21, static_cast<int>(room));
  const auto first = Ask(prefill, prefill.At(room), prompt);
  const auto rest = Ask(decode, prefill.At(room), prompt);
  if (!rest->Wait(http::test::kPatience) || !first->Wait(http::test::kPatience)) return false;
  return rest->tokens == engine::ExpectedTokens(engine::GreedyRequest(decode.engine(), prompt, 4, nullptr));
}

}  // namespace baton::disagg::test
