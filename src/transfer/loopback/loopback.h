// A network inside this process: several engines, real memory, faults from a seed.
//
// For tests, simulations and demos without a network. Writes carry their bytes at the moment of
// arrival (the source is read late, as RDMA does), so a sender that frees memory too early is seen
// in the data. With one thread and one seed everything repeats exactly; time is what callers pass.
//
// Thread-safe: endpoints of one network are used by different workers; one lock guards all.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "common/clock.h"
#include "common/status.h"
#include "transfer/fabric.h"

namespace baton::transfer {

// Chances are per write, 0..1. The defaults are a perfect network.
struct LoopbackFaults {
  Duration min_delay{0}, max_delay{0};  // of an arrival, and again of the writer's completion
  bool hardware = false;                // writes land though the target's process does nothing
  bool keep_order = false;              // deliver each pair's writes in the order posted, as tcp does
  double busy = 0;                      // Write says kAgain
  double fail = 0;                      // the write fails; some of its bytes may have landed
  double corrupt = 0;                   // one byte of the write changes on its way
  double dead_silence = 0;              // a write to a dead endpoint never completes, else it fails
  double rnr = 0;                       // the target is not ready: the write comes rnr_delay later
  Duration rnr_delay{0};
  uint32_t rails = 1, lost_rails = 0;   // writes take rails in turn; those on a lost one fail
  double late = 0;                      // a write outlives its dead or leaving writer and lands ...
  Duration late_by{0};                  // ... so much later
};

// What an endpoint's link does, for endpoints that are rails.
enum class LoopbackLink : uint8_t {
  kUp,
  kSilent,  // nothing passes and nothing is reported; what waits goes on when it is up again
  kBroken,  // writes fail, or are refused at once; of those that fail some land, at once or late
};

class LoopbackNetwork : public std::enable_shared_from_this<LoopbackNetwork> {
 public:
  static std::shared_ptr<LoopbackNetwork> Create(uint64_t seed = 1, LoopbackFaults faults = {});
  virtual ~LoopbackNetwork() = default;

  // An endpoint; its report names it in `rails` ("loopback-0", "loopback-1", ...).
  // `cq_entries` as FabricTraits: more completions than that waiting for Poll are an overrun.
  // `gather_below`: likewise.
  virtual std::unique_ptr<Fabric> Open(uint32_t cq_entries = 0, uint64_t gather_below = 0) = 0;

  // From now on; what is under way keeps its fate.
  virtual void SetFaults(LoopbackFaults faults) = 0;
  // The endpoint's process dies: it neither sends nor receives any more. What it sent may arrive.
  virtual void Kill(std::string_view address) = 0;
  // SIGSTOP and SIGCONT: a paused endpoint answers nothing, what reaches it waits.
  virtual void SetPaused(std::string_view address, bool paused) = 0;
  virtual void SetLink(std::string_view address, LoopbackLink link) = 0;
  // Writes under way and keys exposed, over all endpoints: zero when all is closed.
  virtual size_t writes_under_way() const = 0;
  virtual size_t keys_exposed() const = 0;
  // How often a completion queue overran: must never happen.
  virtual uint64_t cq_overruns() const = 0;
};

}  // namespace baton::transfer
