#include "router/discovery/file_watch.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include <sys/inotify.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "common/log.h"
#include "router/discovery/background.h"

namespace baton::router {

FileWatch::FileWatch(const asio::any_io_executor& executor, std::string path)
    : path_(std::move(path)), inotify_(executor) {
  const int fd = ::inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  if (fd < 0) {
    log::warn("{}: changes are looked for on a clock only: inotify: {}", path_, std::strerror(errno));
    return;
  }
  inotify_.assign(fd);
}

void FileWatch::Arm() {
  if (!inotify_.is_open()) return;
  const auto watch = [&](const std::filesystem::path& folder) {
    // Watching a folder again is the same watch; a folder that was replaced gets a new one.
    (void)::inotify_add_watch(inotify_.native_handle(), folder.empty() ? "." : folder.c_str(),
                              IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR);
  };
  watch(std::filesystem::path(path_).parent_path());
  std::error_code ec;
  const auto real = std::filesystem::canonical(path_, ec);
  if (!ec) watch(real.parent_path());
}

asio::awaitable<void> FileWatch::Wait(Duration time) {
  using namespace asio::experimental::awaitable_operators;  // NOLINT
  constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
  if (co_await Cancelled()) co_return;
  asio::steady_timer timer(inotify_.get_executor(), time);
  if (!inotify_.is_open()) {
    co_await timer.async_wait(kAwait);
    co_return;
  }
  co_await (timer.async_wait(kAwait) || inotify_.async_wait(asio::posix::descriptor_base::wait_read, kAwait));
  // What the events say does not matter: the file is read in any case.
  alignas(inotify_event) char events[4096];
  while (::read(inotify_.native_handle(), events, sizeof events) > 0) {
  }
}

Result<std::string> ReadWholeFile(const std::string& path, size_t max_bytes) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return Error(Code::kNotFound, "cannot read {}: {}", path, std::strerror(errno));
  std::string text;
  char piece[16384];
  while (in.read(piece, sizeof piece) || in.gcount() > 0) {
    text.append(piece, static_cast<size_t>(in.gcount()));
    if (text.size() > max_bytes) return Error(Code::kTooLarge, "{} is larger than {} bytes", path, max_bytes);
  }
  if (in.bad()) return Error(Code::kNotFound, "cannot read {}: {}", path, std::strerror(errno));
  return text;
}

}  // namespace baton::router
