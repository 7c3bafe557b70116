#include "disagg/link.h"

#include <fstream>
#include <random>

#include <boost/asio/bind_executor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace baton::disagg {
namespace {

constexpr Duration kConnectTime = 5s;

// The monotonic clock counts from the kernel's start, which has an id of its own (containers share it).
uint64_t ClockId() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  if (!std::getline(file, id)) return 0;
  return std::hash<std::string>()(id) | 1;
}

}  // namespace

Result<std::unique_ptr<Link>> OpenLink(LinkOptions options, engine::Engine& engine,
                                       std::function<void(const transfer::Event&)> on_event) {
  auto link = std::make_unique<Link>();
  link->engine = &engine;
  auto fabric = transfer::Engine::Open(options.fabric, std::move(on_event));
  if (!fabric.ok()) return fabric.status();
  link->fabric = std::move(*fabric);
  auto region = link->fabric->Register(engine.kv_memory());
  if (!region.ok()) return region.status().Prefixed("registering the KV pool");
  link->kv_region = *region;
  std::random_device random;
  link->self.instance = (uint64_t{random()} << 32) | random();
  link->self.name = options.name;
  link->self.model = options.model;
  link->self.layout = engine.kv_layout();
  link->self.clock = ClockId();
  link->options = std::move(options);
  return link;
}

asio::awaitable<Result<transfer::PeerId>> Link::Connect(PeerInfo peer) {
  const TimePoint deadline = Now() + kConnectTime;
  const auto executor = co_await asio::this_coro::executor;
  co_await asio::post(asio::bind_executor(connector.get_executor(), asio::use_awaitable));
  auto id = fabric->Connect(peer.fabric, deadline);
  co_await asio::post(executor, asio::use_awaitable);
  co_return id;
}

}  // namespace baton::disagg
