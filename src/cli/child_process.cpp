#include "cli/child_process.h"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <deque>
#include <fstream>
#include <thread>
#include <utility>

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace baton::cli {

Result<ChildProcess> ChildProcess::Start(std::string name, std::vector<std::string> arguments,
                                         const std::string& log_path, bool progress) {
  int pipe_fds[2] = {-1, -1};
  if (progress && ::pipe(pipe_fds) != 0) return Error(Code::kInternal, "pipe: {}", std::strerror(errno));
  if (progress) {
    ::fcntl(pipe_fds[0], F_SETFD, FD_CLOEXEC);
    arguments.insert(arguments.end(), {"--progress-fd", std::to_string(pipe_fds[1])});
  }
  const int log_fd = ::open(log_path.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
  if (log_fd < 0) return Error(Code::kInternal, "cannot write {}: {}", log_path, std::strerror(errno));
  std::vector<char*> argv = {const_cast<char*>("baton")};
  for (std::string& a : arguments) argv.push_back(a.data());
  argv.push_back(nullptr);
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (::getppid() != parent) ::_exit(1);
    ::setpgid(0, 0);  // the terminal's Ctrl-C reaches the parent only, which stops us in order
    ::dup2(log_fd, STDERR_FILENO);
    ::dup2(log_fd, STDOUT_FILENO);
    ::execv("/proc/self/exe", argv.data());
    ::_exit(127);
  }
  ::close(log_fd);
  if (progress) ::close(pipe_fds[1]);
  if (pid < 0) return Error(Code::kInternal, "fork: {}", std::strerror(errno));
  ChildProcess child;
  child.name_ = std::move(name);
  child.log_path_ = log_path;
  child.pid_ = pid;
  child.progress_fd_ = pipe_fds[0];
  return child;
}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : name_(std::move(other.name_)), log_path_(std::move(other.log_path_)), pid_(std::exchange(other.pid_, -1)),
      progress_fd_(std::exchange(other.progress_fd_, -1)) {}

ChildProcess::~ChildProcess() {
  if (progress_fd_ >= 0) ::close(progress_fd_);
  Terminate();
  WaitOrKill(Now() + 3s);
}

bool ChildProcess::Ended(std::string& exit_text) {
  if (pid_ < 0) return true;
  int status = 0;
  if (::waitpid(pid_, &status, WNOHANG) != pid_) return false;
  exit_text = WIFEXITED(status) ? fmt::format("exit code {}", WEXITSTATUS(status))
                                : fmt::format("signal {}", WTERMSIG(status));
  pid_ = -1;
  return true;
}

void ChildProcess::Terminate() {
  if (pid_ > 0) ::kill(pid_, SIGTERM);
}

void ChildProcess::WaitOrKill(TimePoint limit) {
  std::string ignored;
  while (!Ended(ignored)) {
    if (Now() >= limit) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
      pid_ = -1;
      return;
    }
    std::this_thread::sleep_for(10ms);
  }
}

std::string LogTail(const std::string& path, int lines) {
  std::ifstream in(path);
  std::deque<std::string> tail;
  std::string line;
  while (std::getline(in, line)) {
    tail.push_back(line);
    if (tail.size() > static_cast<size_t>(lines)) tail.pop_front();
  }
  std::string out;
  for (const std::string& l : tail) out += "    " + l + "\n";
  return out;
}

}  // namespace baton::cli
