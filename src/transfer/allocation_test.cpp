// Push and Mark allocate nothing: they run on the model's threads, between layers. Nor does the worker's
// side, once its queues have grown: taking, posting, completing, counting, granting credits.
#include <gtest/gtest.h>

#include <cstdlib>
#include <new>

#include "common/sanitized.h"
#include "transfer/cuda/cuda_for_tests.h"
#include "transfer/engine_core.h"
#include "transfer/event_log_for_tests.h"
#include "transfer/loopback/loopback.h"
#include "transfer/staged/staged_fabric.h"

// Sanitizers bring their own allocator; the count is taken in plain builds.
#ifndef BATON_SANITIZED

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

TEST(Allocation, PushMarkSealFinishAndReleaseAllocateNothing) {
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
  bool marked = true;
  for (int i = 0; i < 100; ++i) {
    writes += *a->Push(send, runs);
    marked = a->Mark(send).ok() && marked;
  }
  a->Finish(send);
  b->Seal(slot, writes);
  EXPECT_EQ(allocations, before);
  EXPECT_EQ(writes, 6400u);
  EXPECT_TRUE(marked);

  const auto event = log_b.WaitSlot(slot);
  ASSERT_TRUE(event);
  EXPECT_EQ(event->kind, Event::Kind::kReceiveDone) << event->status.ToString();
  const uint64_t later = allocations;
  b->Release(slot);
  EXPECT_EQ(allocations, later);
}

TEST(Allocation, SteppingAllocatesNothingOnceWarm) {
  const auto network = LoopbackNetwork::Create();
  std::vector<std::byte> memory(1 << 16);
  uint64_t received = 0, sent = 0;
  EngineCore a(network->Open(4096), {.epoch = 1}, [&](const Event&) { ++sent; });
  EngineCore b(network->Open(4096), {.epoch = 2}, [&](const Event& e) {
    received += e.kind == Event::Kind::kReceiveDone;
  });
  for (EngineCore* core : {&a, &b}) {
    ASSERT_TRUE(core->Open().ok());
    ASSERT_TRUE(core->Register({memory.data(), memory.size()}).ok());
  }
  TimePoint now = TimePoint{} + 1h;
  const PeerId to_b = *a.AddPeer(*ParseBlob(*b.Describe()), now);
  const PeerId to_a = *b.AddPeer(*ParseBlob(*a.Describe()), now);
  const auto step = [&](int times) {
    for (int i = 0; i < times; ++i) {
      now += 100us;
      a.Step(now);
      b.Step(now);
    }
  };
  step(20);
  const std::vector<transfer::Run> runs(64, {0, 0, 256});
  const auto transfer = [&](Priority priority) {
    const Slot slot = *b.Expect(to_a, now + 10s);
    const SendId send = *a.Begin(to_b, slot, {0}, {0}, now + 10s, priority);
    uint32_t writes = 0;
    for (int i = 0; i < 10; ++i) {
      writes += *a.Push(send, runs);
      if (!a.Mark(send).ok()) return;  // shows in `sent`
    }
    a.Finish(send);
    b.Seal(slot, writes);
    step(30);
    b.Release(slot);
    step(2);
  };
  for (int i = 0; i < 5; ++i) transfer(Priority::kDecode);
  const uint64_t before = allocations;
  for (int i = 0; i < 20; ++i) transfer(static_cast<Priority>(i % 3));
  EXPECT_EQ(allocations, before);
  EXPECT_EQ(received, 25u);
  EXPECT_EQ(sent, 25u);
}

// Transfers from `a` to `b`, over and over: how much they allocate once warm.
void AllocatesNothing(std::unique_ptr<Fabric> fabric_a, std::unique_ptr<Fabric> fabric_b, MemorySpan memory_a,
                      MemorySpan memory_b, std::span<const transfer::Run> runs) {
  uint64_t received = 0;
  EngineCore a(std::move(fabric_a), {.epoch = 1}, [](const Event&) {});
  EngineCore b(std::move(fabric_b), {.epoch = 2}, [&](const Event& e) { received += e.kind == Event::Kind::kReceiveDone; });
  ASSERT_TRUE(a.Open().ok() && b.Open().ok());
  ASSERT_TRUE(a.Register(memory_a).ok() && b.Register(memory_b).ok());
  TimePoint now = TimePoint{} + 1h;
  const std::string of_a = *a.Describe(), of_b = *b.Describe();
  const PeerId to_b = *a.AddPeer(*ParseBlob(of_b), now);
  const PeerId to_a = *b.AddPeer(*ParseBlob(of_a), now);
  const auto step = [&](int times) {
    for (int i = 0; i < times; ++i) {
      now += 100us;
      a.Step(now);
      b.Step(now);
    }
  };
  step(20);
  const auto transfer = [&] {
    const Slot slot = *b.Expect(to_a, now + 10s);
    const SendId send = *a.Begin(to_b, slot, {0}, {0}, now + 10s);
    uint32_t writes = 0;
    for (int i = 0; i < 4; ++i) writes += *a.Push(send, runs);
    a.Finish(send);
    b.Seal(slot, writes);
    step(400);
    b.Release(slot);
    step(2);
  };
  for (int i = 0; i < 5; ++i) transfer();
  EXPECT_EQ(received, 5u);
  const uint64_t before = allocations;
  for (int i = 0; i < 10; ++i) transfer();
  EXPECT_EQ(allocations, before);
  EXPECT_EQ(received, 15u);
}

// From device memory to device memory (on the stand-in for CUDA), through both rings.
TEST(Allocation, StagedWritesAllocateNothingOnceWarm) {
  cuda::MockCuda mock;
  const auto network = LoopbackNetwork::Create();
  const auto memory_a = cuda::DeviceBuffer::Create(0, 1 << 20), memory_b = cuda::DeviceBuffer::Create(1, 1 << 20);
  ASSERT_TRUE(memory_a.ok() && memory_b.ok());
  AllocatesNothing(*staged::Wrap(network->Open(), 0), *staged::Wrap(network->Open(), 1), memory_a->span(), memory_b->span(),
                   std::vector<transfer::Run>(64, {4096, 8192, 16384}));
}

TEST(Allocation, GatheredWritesAllocateNothingOnceWarm) {
  const auto network = LoopbackNetwork::Create();
  std::vector<std::byte> memory_a(1 << 20), memory_b(1 << 20);
  AllocatesNothing(*staged::Wrap(network->Open(0, 8192), std::nullopt), *staged::Wrap(network->Open(0, 8192), std::nullopt),
                   cuda::SpanOf(memory_a), cuda::SpanOf(memory_b), std::vector<transfer::Run>(200, {4096, 8192, 4096}));
}

}  // namespace
}  // namespace baton::transfer

#endif
