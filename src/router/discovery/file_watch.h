// Tells when a file may have changed: writes in place, atomic renames over it, and the switch of the
// "..data" link by which Kubernetes updates a mounted ConfigMap. inotify on the folders of the file and
// of what it links to; where that is missing, Look() on a clock does the same, later.
#pragma once

#include <string>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>

#include "common/clock.h"
#include "common/status.h"

namespace baton::router {

namespace asio = boost::asio;

class FileWatch {
 public:
  FileWatch(const asio::any_io_executor& executor, std::string path);

  // Returns after the next event in one of the folders, after `time`, or when the
  // coroutine is cancelled. Call Arm before the file is read, so that no change is missed.
  asio::awaitable<void> Wait(Duration time);
  void Arm();

 private:
  const std::string path_;
  asio::posix::stream_descriptor inotify_;
};

// The whole file. kNotFound, kTooLarge above `max_bytes`.
Result<std::string> ReadWholeFile(const std::string& path, size_t max_bytes);

}  // namespace baton::router
