// A child process of `baton up`: started with a progress pipe, dies with its parent, stopped by
// SIGTERM and, after a grace time, by SIGKILL.
#pragma once

#include <string>
#include <vector>

#include <sys/types.h>

#include "common/clock.h"
#include "common/status.h"

namespace baton::cli {

class ChildProcess {
 public:
  // Runs this very binary with `arguments`; stderr goes to `log_path`. With progress, a pipe's
  // write end is passed as `--progress-fd N`.
  static Result<ChildProcess> Start(std::string name, std::vector<std::string> arguments, const std::string& log_path,
                                    bool progress);
  ChildProcess(ChildProcess&& other) noexcept;
  ~ChildProcess();

  const std::string& name() const { return name_; }
  const std::string& log_path() const { return log_path_; }
  pid_t pid() const { return pid_; }
  int progress_fd() const { return progress_fd_; }  // to read from, or -1
  // True when it has ended; `exit_text` says how.
  bool Ended(std::string& exit_text);
  void Terminate();                 // SIGTERM
  void WaitOrKill(TimePoint limit); // then SIGKILL

 private:
  ChildProcess() = default;
  std::string name_, log_path_;
  pid_t pid_ = -1;
  int progress_fd_ = -1;
};

// The last lines of a log file, for error messages.
std::string LogTail(const std::string& path, int lines);

}  // namespace baton::cli
