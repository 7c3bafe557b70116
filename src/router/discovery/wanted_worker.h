// What a source of discovery wants, and how that differs from what it has: pure values. Every source
// says its whole set each time; what to do follows from the difference, so nothing that was missed
// on the way can be wrong for long.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "router/registry.h"

namespace baton::router {

struct WantedWorker {
  // Names this incarnation. Another key at the same URL is another worker, with fresh state; so a key
  // holds whatever cannot be changed in place.
  std::string key;
  WorkerConfig config;
  bool draining = false;
};

// In the order in which to do them: removals first, since an addition may need their URL.
struct WorkerChanges {
  std::vector<std::string> remove;  // keys
  std::vector<WantedWorker> add;
  std::vector<WantedWorker> update;
  bool empty() const { return remove.empty() && add.empty() && update.empty(); }
};

// Keys in `wanted` are distinct. A worker that is wanted as draining and is not there is not added.
WorkerChanges Compare(const std::map<std::string, WantedWorker>& have, const std::vector<WantedWorker>& wanted);

}  // namespace baton::router
