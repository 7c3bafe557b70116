// When a stream that broke after its first byte goes on at another pair, and when not any more
// (docs/migration.md). Part of RouterOptions.
#pragma once

#include <chrono>

namespace baton::router {

struct MigrationRules {
  int max_migrations = 3;     // of one stream; 0: off
  // A request on board when this many workers died may be what kills them: it ends with an error.
  int max_worker_kills = 3;
  // How long a request waits for a worker when none can take it: always when its stream has begun,
  // else only if one could within this time before.
  std::chrono::milliseconds worker_wait{3'000};
};

}  // namespace baton::router
