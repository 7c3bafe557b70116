#include "common/line_writer.h"

#include <cerrno>
#include <system_error>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"

namespace baton {

namespace {

int OpenForAppend(const std::string& path) {
  return ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
}

std::string ErrnoText() { return std::generic_category().message(errno); }

uint64_t SizeOf(int fd) {
  struct stat info {};
  return ::fstat(fd, &info) == 0 ? static_cast<uint64_t>(info.st_size) : 0;
}

}  // namespace

Result<std::unique_ptr<LineWriter>> LineWriter::Open(Options options) {
  const bool standard = options.path == "-";
  const int fd = standard ? STDOUT_FILENO : OpenForAppend(options.path);
  if (fd < 0) return Error(Code::kInvalidArgument, "cannot write {}: {}", options.path, ErrnoText());
  return std::unique_ptr<LineWriter>(new LineWriter(std::move(options), fd));
}

LineWriter::LineWriter(Options options, int fd)
    : options_(std::move(options)), fd_(fd), file_bytes_(SizeOf(fd)), thread_([this] { Run(); }) {}

LineWriter::~LineWriter() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  thread_.join();
  if (fd_ != STDOUT_FILENO && fd_ >= 0) ::close(fd_);
}

bool LineWriter::Write(std::string_view line) {
  bool first = false;
  {
    const std::lock_guard lock(mutex_);
    if (waiting_.size() + line.size() + 1 > options_.max_waiting_bytes) {
      dropped_.fetch_add(1, std::memory_order_relaxed);
      return false;
    }
    first = waiting_.empty();
    waiting_.append(line).push_back('\n');
  }
  if (first) wake_.notify_one();
  return true;
}

void LineWriter::Reopen() {
  {
    const std::lock_guard lock(mutex_);
    reopen_ = true;
  }
  wake_.notify_one();
}

void LineWriter::Run() {
  std::string bytes;
  while (true) {
    bool reopen = false;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return stop_ || reopen_ || !waiting_.empty(); });
      if (waiting_.empty() && !reopen_) return;  // stop_
      bytes.clear();
      bytes.swap(waiting_);
      reopen = std::exchange(reopen_, false);
    }
    if (reopen) OpenAgain();
    WriteAll(bytes);
    if (options_.max_file_bytes > 0 && file_bytes_ >= options_.max_file_bytes) Rotate();
  }
}

void LineWriter::WriteAll(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = fd_ < 0 ? -1 : ::write(fd_, bytes.data(), bytes.size());
    if (n < 0 && fd_ >= 0 && errno == EINTR) continue;
    if (n < 0) {
      // A full disk must not stop the service; the lines are lost and counted.
      for (char c : bytes) dropped_.fetch_add(c == '\n', std::memory_order_relaxed);
      return;
    }
    file_bytes_ += static_cast<uint64_t>(n);
    bytes.remove_prefix(static_cast<size_t>(n));
  }
}

void LineWriter::OpenAgain() {
  if (fd_ == STDOUT_FILENO) return;
  const int fd = OpenForAppend(options_.path);
  if (fd < 0) {
    log::error("{} cannot be opened again, the old file stays in use: {}", options_.path, ErrnoText());
    return;
  }
  ::close(fd_);
  fd_ = fd;
  file_bytes_ = SizeOf(fd);
}

void LineWriter::Rotate() {
  if (fd_ == STDOUT_FILENO) return;
  for (int i = options_.old_files; i > 0; --i) {
    const std::string from = i == 1 ? options_.path : fmt::format("{}.{}", options_.path, i - 1);
    const std::string to = fmt::format("{}.{}", options_.path, i);
    if (::rename(from.c_str(), to.c_str()) != 0 && errno != ENOENT) {
      log::error("{} cannot become {}: {}", from, to, ErrnoText());
      file_bytes_ = 0;  // try again after as much
      return;
    }
  }
  if (options_.old_files == 0) (void)::unlink(options_.path.c_str());
  OpenAgain();
}

}  // namespace baton
