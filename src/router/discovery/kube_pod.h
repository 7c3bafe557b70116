// One pod of the Kubernetes API, reduced to what makes it a worker. Parsing only; no I/O.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/json.h"
#include "router/discovery/options.h"
#include "router/registry.h"

namespace baton::router {

// What the pod's status says about requests. A pod that was serving and is paused or ending keeps its
// running requests and gets no new ones.
enum class PodState : uint8_t {
  kWaiting,  // no address yet, or not started
  kServing,  // phase Running, condition Ready
  kPaused,   // running but not Ready, or its node does not report
  kEnding,   // has a deletionTimestamp
  kOver,     // Succeeded or Failed
};

struct PodPort {
  uint16_t http = 0;
  std::optional<uint16_t> bootstrap;
  friend bool operator==(const PodPort&, const PodPort&) = default;
};

struct Pod {
  std::string uid, space, name;
  std::string created;            // RFC 3339 in UTC: later is greater
  std::string ip;                 // checked
  std::optional<Role> role;       // none: no selector matches
  std::vector<PodPort> ports;     // one per server of the pod, at least one
  PodState state = PodState::kWaiting;
  std::string warning;            // "" unless an annotation was ignored
};

// Reads a Pod object. kDataCorrupt when there is no metadata.uid; any other odd field is as if it
// were absent.
Result<Pod> ReadPod(const json::object& from, const KubeOptions& options, bool pd);

// The labelSelector query that keeps every pod that `options` can match, "" when none can be told.
std::string ServerSideSelector(const KubeOptions& options, bool pd);

}  // namespace baton::router
