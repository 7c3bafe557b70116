// The running sources of discovery of one router: Kubernetes, DNS and a file. They add and remove
// workers of their own until stopped.
#pragma once

#include <memory>
#include <vector>

#include "router/discovery/background.h"
#include "router/discovery/file_source.h"
#include "router/services.h"

namespace baton::router {

class Discovery {
 public:
  // Reads the workers file (a broken one is kInvalidArgument here) and starts the rest. Until each
  // source has told its first set, services->unsynced holds the router back from being ready.
  static Result<std::unique_ptr<Discovery>> Start(std::shared_ptr<Services> services);

  // Reads the workers file now.
  Status ReloadFile();
  // Sources end soon after; the workers stay. Thread-safe, may be called twice.
  void Stop();

 private:
  Discovery() = default;
  std::shared_ptr<FileSource> file_;
  std::vector<std::unique_ptr<Background>> running_;
};

// For one source: `label` in logs and metrics.
std::shared_ptr<OwnedWorkers> MakeOwnedWorkers(const std::shared_ptr<Services>& services, std::string label);

}  // namespace baton::router
