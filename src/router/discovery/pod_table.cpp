#include "router/discovery/pod_table.h"

#include <utility>

#include "http/client.h"

namespace baton::router {

std::string WorkerUrl(const Pod& pod, const PodPort& port) {
  return http::Origin{false, pod.ip, port.http}.ToString();
}

std::string WorkerKey(const Pod& pod, const PodPort& port) {
  return fmt::format("{} {} {}", pod.uid, RoleName(pod.role.value_or(Role::kRegular)), WorkerUrl(pod, port));
}

void PodTable::MarkDead(const Pod& pod) {
  if (!pod.role || pod.ip.empty()) return;
  for (const PodPort& port : pod.ports) dead_.insert(WorkerKey(pod, port));
}

void PodTable::Put(Pod pod, bool served) {
  if (pod.state == PodState::kOver) {
    // Its last status may have lost the address: what was known before counts.
    if (const auto found = pods_.find(pod.uid); found != pods_.end()) MarkDead(found->second.pod);
    MarkDead(pod);
  }
  served |= pod.state == PodState::kServing;
  if (!pod.role || pod.state == PodState::kOver) {
    pods_.erase(pod.uid);
    return;
  }
  std::string uid = pod.uid;
  pods_.insert_or_assign(std::move(uid), Entry{std::move(pod), served});
}

void PodTable::OnList(std::vector<Pod> pods) {
  std::map<std::string, Entry> before = std::exchange(pods_, {});
  for (Pod& pod : pods) {
    const auto found = before.find(pod.uid);
    const bool served = found != before.end() && found->second.served;
    if (pod.state == PodState::kOver && served) MarkDead(found->second.pod);
    Put(std::move(pod), served);
  }
}

void PodTable::OnUpsert(Pod pod) {
  const auto found = pods_.find(pod.uid);
  const bool served = found != pods_.end() && found->second.served;
  Put(std::move(pod), served);
}

void PodTable::OnDelete(const Pod& pod) {
  const auto found = pods_.find(pod.uid);
  if (pod.state == PodState::kEnding || pod.state == PodState::kOver) {
    MarkDead(pod);
    if (found != pods_.end()) MarkDead(found->second.pod);
  }
  if (found != pods_.end()) pods_.erase(found);
}

std::set<std::string> PodTable::TakeDead() { return std::exchange(dead_, {}); }

std::vector<WantedWorker> PodTable::Wanted() const {
  struct Claim {
    const Entry* entry;
    const PodPort* port;
  };
  std::map<std::string, Claim> by_url;
  for (const auto& [uid, entry] : pods_) {
    if (!entry.served || entry.pod.ip.empty()) continue;
    for (const PodPort& port : entry.pod.ports) {
      Claim& claim = by_url.try_emplace(WorkerUrl(entry.pod, port), Claim{&entry, &port}).first->second;
      if (claim.entry->pod.created < entry.pod.created) claim = {&entry, &port};
    }
  }
  std::vector<WantedWorker> wanted;
  wanted.reserve(by_url.size());
  for (const auto& [url, claim] : by_url) {
    const Pod& pod = claim.entry->pod;
    WantedWorker w;
    w.key = WorkerKey(pod, *claim.port);
    w.config.url = url;
    w.config.role = *pod.role;
    w.config.bootstrap_port = claim.port->bootstrap;
    w.config.labels = {{"discovered_by", "kubernetes"}, {"pod", pod.name}, {"namespace", pod.space}, {"pod_uid", pod.uid}};
    w.draining = pod.state != PodState::kServing;
    wanted.push_back(std::move(w));
  }
  return wanted;
}

}  // namespace baton::router
