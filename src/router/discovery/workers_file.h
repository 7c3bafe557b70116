// The format of --workers-file: a JSON array of workers, or {"workers": [...]}, with the fields of
// POST /workers.
//
//   [{"url": "http://10.0.0.1:30000", "worker_type": "prefill", "bootstrap_port": 8998},
//    {"url": "http://10.0.0.2:30000", "worker_type": "decode"}]
#pragma once

#include <string_view>
#include <vector>

#include "router/discovery/wanted_worker.h"

namespace baton::router {

// The file's workers in its order. kInvalidArgument says where in `path` it is wrong: line and column
// for JSON, else which entry and field; a worker that is listed twice is wrong too.
Result<std::vector<WantedWorker>> ReadWorkersFile(std::string_view path, std::string_view text, bool pd);

// A worker that operators list: role and URL name it.
WantedWorker ListedWorker(WorkerConfig config);

}  // namespace baton::router
