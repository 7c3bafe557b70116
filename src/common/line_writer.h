// Lines to a file or to stdout from threads that must not wait for a disk: a call copies the line
// into a buffer under a short lock, a thread of its own writes the buffer. Thread-safe.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include "common/status.h"

namespace baton {

class LineWriter {
 public:
  struct Options {
    std::string path;                        // "-": stdout
    uint64_t max_file_bytes = 100ull << 20;  // then it becomes path.1, path.1 becomes path.2 ...; 0: never
    int old_files = 5;
    size_t max_waiting_bytes = 8 << 20;      // more is dropped and counted
  };
  // kInvalidArgument with the path and the reason.
  static Result<std::unique_ptr<LineWriter>> Open(Options options);
  ~LineWriter();  // writes what waits

  // `line` without its end. False when it was dropped.
  bool Write(std::string_view line);
  uint64_t dropped() const { return dropped_.load(std::memory_order_relaxed); }
  // Opens the path again, for tools that moved the file away.
  void Reopen();

 private:
  LineWriter(Options options, int fd);
  void Run();
  void WriteAll(std::string_view bytes);
  void OpenAgain();
  void Rotate();

  const Options options_;
  int fd_;
  uint64_t file_bytes_ = 0;
  std::atomic<uint64_t> dropped_{0};
  std::mutex mutex_;
  std::condition_variable wake_;
  std::string waiting_;
  bool reopen_ = false;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace baton
