// For tests: real faults on real providers, as many as the time allows, from a seed.
//
// Two processes transfer in both directions while the harness cancels, lets deadlines pass, takes
// permissions away, stops, continues and kills. After each fault: one terminal event, no slot or
// send left over, no byte in memory that was fenced, no wrong byte in a transfer that was done.
//
//   baton_transfer_test --soak shm|shm-private|tcp|tcp-rails|tcp-read|tcp-rails-read|native-read[-stops] SECONDS [SEED]
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "transfer/remote_engine_for_tests.h"
#include "transfer/transfer.h"

namespace baton::transfer {

inline constexpr const char* kSoakFlag = "--soak";

enum class Fault : uint8_t {
  kNone,          // a transfer that must be whole
  kCancelReceive, // the receiver cancels in the middle
  kCancelSend,    // the sender does
  kDeadline,      // the receiver's deadline passes in the middle
  kLeave,         // the receiver takes the writer's permission away in the middle
  kPause,         // SIGSTOP for a while shorter than the peer timeout, then SIGCONT: must be whole
  kStop,          // SIGSTOP until the peer counts as lost, then SIGCONT
  kKill,          // SIGKILL
};
inline constexpr size_t kFaults = 8;

struct SoakOptions {
  ProviderKind provider = ProviderKind::kShm;
  bool shared = true;
  FabricWay way;
  std::vector<std::string> rails;
  bool staged = false;  // memory of devices at both ends, on the stand-in for CUDA's driver
  bool stops = false;   // mostly stops, of which there are few else: both ends lose each other and join anew
  uint64_t seed = 1;
  Duration time = 3s;
};

struct SoakResult {
  std::array<uint64_t, kFaults> faults{};  // by kind; those that found their transfer still running
  uint64_t transfers = 0;                  // whole ones, checked byte by byte
  uint64_t injected() const;               // all but kNone
  std::string ToString() const;
};

// The first broken promise, with the seed and the number of the step that found it.
Result<SoakResult> RunSoak(const SoakOptions& options);
int RunSoakCommand(int count, char** arguments);

}  // namespace baton::transfer
