// For tests: an engine in another process, driven over a socket pair.
//
// The process is this test program run anew (never a fork of a program with threads), in the role
// of RunRemoteEngine; main() is in remote_engine_test.cpp.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/shared_memory.h"
#include "transfer/cuda/memory.h"
#include "transfer/transfer.h"

namespace baton::transfer {

inline constexpr const char* kRemoteEngineFlag = "--remote-engine";

// The child: serves calls on `fd` until it closes. Exit code.
int RunRemoteEngine(int fd);

// A region of a test: memory that peers can map, or not, or of CUDA device `device`.
class TestMemory {
 public:
  TestMemory(uint64_t bytes, bool shared, int device = -1);
  std::byte* data() { return span().data; }
  const std::byte* data() const { return const_cast<TestMemory*>(this)->data(); }
  uint64_t size() const { return const_cast<TestMemory*>(this)->span().size_bytes; }
  MemorySpan span();
  void Fill(uint64_t seed);
  std::string Read(uint64_t offset, uint64_t bytes);

 private:
  std::optional<SharedMemory> shared_;
  std::optional<cuda::DeviceBuffer> device_;
  std::vector<std::byte> private_;
};

// Which of a provider's ways (Options).
struct FabricWay {
  std::string fabric = "auto";
  WriteMode mode = WriteMode::kAuto;
};

class RemoteEngine {
 public:
  // Starts the process and opens its engine with one region of `region_bytes`, filled with bytes
  // of `seed` (0: zeros), of CUDA device `device` if that is not negative. Check status().
  RemoteEngine(ProviderKind provider, uint64_t region_bytes, uint64_t seed, bool shared = false,
               std::chrono::milliseconds peer_timeout = std::chrono::milliseconds(1500),
               const FabricWay& way = {}, int device = -1, std::optional<int> cuda_device = std::nullopt,
               const std::vector<std::string>& rails = {});
  ~RemoteEngine();
  RemoteEngine(const RemoteEngine&) = delete;
  RemoteEngine& operator=(const RemoteEngine&) = delete;

  const Status& status() const { return status_; }
  int pid() const { return pid_; }

  std::string Describe();
  bool Connect(const std::string& blob);
  Slot Expect(Duration timeout);
  void Seal(Slot slot, uint32_t writes);
  void Release(Slot slot);
  uint32_t Landed(Slot slot);
  Event WaitSlot(Slot slot);
  // Receives region bytes [offset, +bytes).
  std::string Read(uint64_t offset, uint64_t bytes);
  // Begins a send to `slot` of its only peer and pushes `runs`, again and again when `endless`.
  // Returns the writes of one round.
  uint32_t Send(Slot slot, std::span<const Run> runs, bool endless);
  Engine::Usage Usage();
  // Stops sending, disconnects its peer and waits for the fence.
  bool Leave();

  void Kill();  // SIGKILL, and waits for the end
  // SIGSTOP, and waits until every thread stands still: until then one of them may go on for
  // milliseconds on a busy machine. The destructor continues it.
  void Stop();
  void Continue();

 private:
  std::string Call(std::string request);
  Status status_;
  int pid_ = -1, fd_ = -1;
};

// The pattern of `seed`, by words of 8 bytes and by bytes.
inline uint64_t PatternWord(uint64_t seed, uint64_t i) {
  uint64_t x = (i + 1) * 0x9E3779B97F4A7C15ull ^ seed * 0xD1B54A32D192ED03ull;
  x ^= x >> 29;
  x *= 0xBF58476D1CE4E5B9ull;
  return x ^ x >> 32;
}
inline uint8_t PatternByte(uint64_t seed, uint64_t i) {
  return static_cast<uint8_t>(PatternWord(seed, i / 8) >> (8 * (i % 8)));
}

}  // namespace baton::transfer
