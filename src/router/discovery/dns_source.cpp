#include "router/discovery/dns_source.h"

#include <mutex>
#include <optional>
#include <system_error>
#include <thread>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "common/log.h"
#include "http/client.h"
#include "router/discovery/workers_file.h"

namespace baton::router {
namespace {

using Answer = Result<std::vector<DnsTarget>>;

// Where a look-up leaves its answer. It cannot be interrupted, so it may come after the coroutine that
// asked, and after its executor: it may use that only while the box is open.
class Inbox {
 public:
  explicit Inbox(const asio::any_io_executor& executor) : bell_(std::in_place, executor, TimePoint::max()) {}

  // From the look-up's thread.
  static void Put(const std::shared_ptr<Inbox>& box, Answer answer) {
    std::lock_guard lock(box->mutex_);
    if (!box->bell_) return;
    box->answer_.emplace(std::move(answer));
    asio::post(box->bell_->get_executor(), [box] { box->Ring(); });
  }
  // On the executor; nothing when cancelled.
  asio::awaitable<std::optional<Answer>> Take() {
    co_await bell_->async_wait(asio::as_tuple(asio::use_awaitable));
    std::lock_guard lock(mutex_);
    co_return answer_;
  }
  void Close() {
    std::lock_guard lock(mutex_);
    bell_.reset();
  }

 private:
  void Ring() {
    std::lock_guard lock(mutex_);
    if (bell_) bell_->cancel();
  }

  std::mutex mutex_;
  std::optional<asio::steady_timer> bell_;  // while the box is open
  std::optional<Answer> answer_;
};

std::vector<WantedWorker> Wanted(const DnsSource& source, const std::vector<DnsTarget>& targets) {
  std::vector<WantedWorker> wanted;
  for (const DnsTarget& target : targets) {
    WorkerConfig config;
    config.url = http::Origin{false, target.address, target.port}.ToString();
    config.role = source.role;
    config.labels = {{"discovered_by", "dns"}, {"dns_name", source.name.name}};
    wanted.push_back(ListedWorker(std::move(config)));
  }
  return wanted;
}

asio::awaitable<std::optional<Answer>> AskOnThread(const DnsName& name, DnsLookUp look_up) {
  const auto box = std::make_shared<Inbox>(co_await asio::this_coro::executor);
  // Also when this coroutine is destroyed where it waits.
  const std::shared_ptr<void> closer(nullptr, [box](void*) { box->Close(); });
  try {
    std::thread([box, name, look_up = std::move(look_up)] { Inbox::Put(box, look_up(name)); }).detach();
  } catch (const std::system_error& error) {
    Inbox::Put(box, Error(Code::kUnavailable, "{}: no thread for the look-up: {}", name.name, error.what()));
  }
  co_return co_await box->Take();
}

}  // namespace

void DnsView::OnAnswer(const Answer& answer) {
  if (answer.ok()) {
    targets_ = *answer;
    missing_ = 0;
    told_ = true;
  } else if (answer.status().code() == Code::kNotFound) {
    told_ = true;
    if (++missing_ >= kGoneAfter) targets_.clear();
  } else {
    missing_ = 0;
  }
}

asio::awaitable<void> FollowDns(DnsSource source, DnsLookUp look_up) {
  DnsView view;
  std::string logged;
  while (!co_await Cancelled()) {
    const auto answer = co_await AskOnThread(source.name, look_up);
    if (!answer || co_await Cancelled()) co_return;
    view.OnAnswer(*answer);
    const std::string problem = answer->status().message();
    if (problem != logged) {
      if (answer->ok()) log::info("DNS discovery: {} answers again", source.name.name);
      else log::warn("DNS discovery: {}; {} workers stay", problem, view.targets().size());
      logged = problem;
    }
    source.workers->Apply(Wanted(source, view.targets()));
    if (view.told() && source.synced) std::exchange(source.synced, nullptr)();
    co_await Pause(source.interval);
  }
}

}  // namespace baton::router
