// Push allocates nothing: it runs on the model's threads, between layers.
#include <gtest/gtest.h>

#include <cstdlib>
#include <new>

#include "transfer/event_log_for_tests.h"
#include "transfer/loopback/loopback.h"

// Sanitizers bring their own allocator; the count is taken in plain builds.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

namespace {
thread_local uint64_t allocations = 0;
}

void* operator new(std::size_t size) {
  ++allocations;
  if (void* p = std::malloc(size ? size : 1)) return p;
  throw std::bad_alloc();
}
void* operator new(std::size_t size, std::align_val_t alignment) {
  ++allocations;
  const auto align = static_cast<std::size_t>(alignment);
  if (void* p = std::aligned_alloc(align, (size + align - 1) / align * align)) return p;
  throw std::bad_alloc();
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }

namespace baton::transfer {
namespace {

TEST(Allocation, PushSealFinishAndReleaseAllocateNothing) {
  const auto network = LoopbackNetwork::Create();
  Options options;
  options.provider = ProviderKind::kLoopback;
  options.loopback = network;
  options.self_test = false;
  EventLog log_a, log_b;
  auto a = *Engine::Open(options, log_a.Sink()), b = *Engine::Open(options, log_b.Sink());
  std::vector<std::byte> memory(1 << 16);
  ASSERT_TRUE(a->Register({memory.data(), memory.size()}).ok());
  ASSERT_TRUE(b->Register({memory.data(), memory.size()}).ok());
  const PeerId to_b = *a->Connect(b->Describe(), Now() + 5s);
  const PeerId to_a = *b->Connect(a->Describe(), Now() + 5s);
  const Slot slot = *b->Expect(to_a, Now() + 10s);
  const SendId send = *a->Begin(to_b, slot, {0}, {0}, Now() + 10s);
  const std::vector<transfer::Run> runs(64, {0, 0, 256});

  const uint64_t before = allocations;
  uint32_t writes = 0;
  for (int i = 0; i < 100; ++i) writes += *a->Push(send, runs);
  a->Finish(send);
  b->Seal(slot, writes);
  EXPECT_EQ(allocations, before);
  EXPECT_EQ(writes, 6400u);

  const auto event = log_b.WaitSlot(slot);
  ASSERT_TRUE(event);
  EXPECT_EQ(event->kind, Event::Kind::kReceiveDone) << event->status.ToString();
  const uint64_t later = allocations;
  b->Release(slot);
  EXPECT_EQ(allocations, later);
}

}  // namespace
}  // namespace baton::transfer

#endif
