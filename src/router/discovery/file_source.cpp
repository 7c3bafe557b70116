#include "router/discovery/file_source.h"

#include "common/log.h"
#include "router/discovery/file_watch.h"
#include "router/discovery/workers_file.h"

namespace baton::router {
namespace {

constexpr size_t kMaxFileBytes = 16 << 20;
// Where inotify does not tell (network file systems).
constexpr Duration kLookInterval = std::chrono::seconds(5);
// Editors and ConfigMap updates come as several events.
constexpr Duration kSettleTime = std::chrono::milliseconds(50);

}  // namespace

Status FileSource::Read() {
  auto text = ReadWholeFile(path_, kMaxFileBytes);
  if (!text.ok()) return text.status();
  std::lock_guard lock(mutex_);
  if (!any_ || *text != text_) {
    auto wanted = ReadWorkersFile(path_, *text, pd_);
    if (!wanted.ok()) return wanted.status();
    text_ = std::move(*text);
    wanted_ = std::move(*wanted);
    any_ = true;
    log::info("{}: {} workers", path_, wanted_.size());
  }
  // Unchanged too: a URL that somebody else had may be free now.
  workers_->Apply(wanted_);
  return Status::Ok();
}

asio::awaitable<void> FileSource::Follow(asio::any_io_executor executor) {
  FileWatch watch(executor, path_);
  std::string logged;
  while (true) {
    watch.Arm();
    const Status read = Read();
    if (!read.ok() && read.message() != logged) log::error("--workers-file: {}; the workers stay as they were", read.message());
    logged = read.message();
    co_await watch.Wait(kLookInterval);
    if (co_await Cancelled()) co_return;
    co_await Pause(kSettleTime);
    if (co_await Cancelled()) co_return;
  }
}

}  // namespace baton::router
