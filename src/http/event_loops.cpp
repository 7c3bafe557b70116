#include "http/event_loops.h"

#include <algorithm>
#include <thread>

namespace baton::http {

EventLoops::EventLoops(size_t count) {
  for (size_t i = 0; i < std::max<size_t>(count, 1); ++i) loops_.push_back(std::make_unique<Loop>());
}

EventLoops::~EventLoops() {
  // Twice, because a coroutine that ends may still post to a loop that was emptied before.
  for (int pass = 0; pass < 2; ++pass) {
    for (const auto& loop : loops_) loop->DropAll();
  }
}

asio::io_context& EventLoops::main() { return *loops_[0]; }

std::vector<asio::any_io_executor> EventLoops::executors() {
  std::vector<asio::any_io_executor> all;
  for (const auto& loop : loops_) all.push_back(loop->get_executor());
  return all;
}

void EventLoops::Run() {
  std::vector<std::thread> others;
  for (size_t i = 1; i < loops_.size(); ++i) others.emplace_back([this, i] { loops_[i]->run(); });
  loops_[0]->run();
  for (std::thread& thread : others) thread.join();
}

void EventLoops::Stop() {
  for (const auto& loop : loops_) loop->stop();
}

}  // namespace baton::http
