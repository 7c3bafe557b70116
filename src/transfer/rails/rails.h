// Several network cards as one Fabric: every write takes the path (local rail, remote rail) that will
// be done with it first; a path that fails is closed and tried again until it works.
//
// Each rail is a Fabric of its own with all its objects. The two sides may have different numbers of
// rails: rail i talks to rail i of the other side, modulo the smaller number, and to others only
// while that one does not work.
//
// Beyond what fabric.h promises:
// - a write that one rail refuses goes to another one;
// - a write on a path that failed, or that is silent while other paths of the peer speak, ends as
//   kFailed `in_doubt`: it may have landed, and still may until the target has renewed its key;
// - only when no path is left, or may be, does a failure say `peer_lost`.
#pragma once

#include <memory>
#include <vector>

#include "transfer/fabric.h"

namespace baton::transfer {

struct RailTimes {
  Duration silence = 250ms;      // of a path with writes in flight, then it is closed
  Duration first_retry = 50ms;   // after a failure; doubles up to last_retry
  Duration last_retry = 1s;
  Duration probe_timeout = 1s;   // for connecting too
};

// What a side with rails calls its family, so that one without them is refused with a clear word.
std::string RailsFamily(const std::string& family);

// At least one, at most kMaxRails, all of one provider.
std::unique_ptr<Fabric> JoinRails(std::vector<std::unique_ptr<Fabric>> rails, RailTimes times = {});

}  // namespace baton::transfer
