// Workers from --workers-file: read at the start, and again when it changes. A file that is broken or
// gone keeps the workers of its last good state.
#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "router/discovery/background.h"
#include "router/discovery/owned_workers.h"

namespace baton::router {

class FileSource : public std::enable_shared_from_this<FileSource> {
 public:
  FileSource(std::string path, bool pd, std::shared_ptr<OwnedWorkers> workers)
      : path_(std::move(path)), pd_(pd), workers_(std::move(workers)) {}

  // Reads the file and, when it is good, applies it. Thread-safe.
  Status Read();
  // Reads after each change, until cancelled. Failures are logged, each once.
  asio::awaitable<void> Follow(asio::any_io_executor executor);

 private:
  const std::string path_;
  const bool pd_;
  const std::shared_ptr<OwnedWorkers> workers_;
  std::mutex mutex_;
  bool any_ = false;     // has it been good once?
  std::string text_;     // of its last good state
  std::vector<WantedWorker> wanted_;
};

}  // namespace baton::router
