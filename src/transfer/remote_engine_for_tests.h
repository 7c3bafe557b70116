// For tests: an engine in another process, driven over a socket pair.
//
// The process is this test program run anew (never a fork of a program with threads), in the role
// of RunRemoteEngine; main() is in process_test.cpp.
#pragma once

#include <string>

#include "transfer/transfer.h"

namespace baton::transfer {

inline constexpr const char* kRemoteEngineFlag = "--remote-engine";

// The child: serves calls on `fd` until it closes. Exit code.
int RunRemoteEngine(int fd);

class RemoteEngine {
 public:
  // Starts the process and opens its engine with one region of `region_bytes`, filled with bytes
  // of `seed` (0: zeros). Check status().
  RemoteEngine(ProviderKind provider, uint64_t region_bytes, uint64_t seed);
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
  Event WaitSlot(Slot slot);
  // Receives region bytes [offset, +bytes).
  std::string Read(uint64_t offset, uint64_t bytes);
  // Begins a send to `slot` of its only peer and pushes `runs`, again and again when `endless`.
  // Returns the writes of one round.
  uint32_t Send(Slot slot, std::span<const Run> runs, bool endless);
  Engine::Usage Usage();

  void Kill();  // SIGKILL, and waits for the end

 private:
  std::string Call(std::string request);
  Status status_;
  int pid_ = -1, fd_ = -1;
};

// Byte `i` of the pattern of `seed`.
inline uint8_t PatternByte(uint64_t seed, uint64_t i) {
  uint64_t x = (i / 8 + 1) * 0x9E3779B97F4A7C15ull ^ seed * 0xD1B54A32D192ED03ull;
  x ^= x >> 29;
  x *= 0xBF58476D1CE4E5B9ull;
  x ^= x >> 32;
  return static_cast<uint8_t>(x >> (8 * (i % 8)));
}

}  // namespace baton::transfer
