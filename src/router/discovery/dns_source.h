// Workers from a DNS name, asked again and again. What an answer means is decided by DnsView, a pure
// state machine; the look-ups run on threads of their own.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "router/discovery/background.h"
#include "router/discovery/dns_lookup.h"
#include "router/discovery/owned_workers.h"

namespace baton::router {

// What is known of one name.
class DnsView {
 public:
  // "There is no such name" this often in a row empties the set; a single one may be a name server
  // that starts, or a Service that is being replaced.
  static constexpr int kGoneAfter = 3;

  // A failed look-up (kUnavailable, kDataCorrupt) keeps the last set.
  void OnAnswer(const Result<std::vector<DnsTarget>>& answer);
  const std::vector<DnsTarget>& targets() const { return targets_; }
  // Has anything been told yet, be it that there is nobody?
  bool told() const { return told_; }

 private:
  std::vector<DnsTarget> targets_;
  int missing_ = 0;
  bool told_ = false;
};

struct DnsSource {
  DnsName name;
  Role role = Role::kRegular;
  Duration interval{};
  std::shared_ptr<OwnedWorkers> workers;
  std::function<void()> synced;  // once the name has been told
};

// May block; called from any thread.
using DnsLookUp = std::function<Result<std::vector<DnsTarget>>(const DnsName&)>;

// Runs until it is cancelled; a look-up under way is then left behind and its answer dropped.
asio::awaitable<void> FollowDns(DnsSource source, DnsLookUp look_up);

}  // namespace baton::router
