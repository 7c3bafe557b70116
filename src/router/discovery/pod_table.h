// The pods as the API server tells them, and the workers that follow. A pure state machine, level
// triggered: a list replaces everything, an event one pod, and Wanted() says the whole set anew.
// Pods are told apart by UID, so a new pod at an old address is a new worker.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "router/discovery/kube_pod.h"
#include "router/discovery/wanted_worker.h"

namespace baton::router {

class PodTable {
 public:
  void OnList(std::vector<Pod> pods);
  void OnUpsert(Pod pod);
  // A pod that leaves a label selector is told as deleted too: only one that was ending is dead.
  void OnDelete(const Pod& pod);

  // Serving pods, and paused or ending ones that were serving. One worker per URL: the newest pod's.
  std::vector<WantedWorker> Wanted() const;
  // Keys of workers that are known to have ended since the last call.
  std::set<std::string> TakeDead();
  size_t size() const { return pods_.size(); }

 private:
  struct Entry {
    Pod pod;
    bool served = false;
  };
  void Put(Pod pod, bool served);
  void MarkDead(const Pod& pod);

  std::map<std::string, Entry> pods_;  // by UID
  std::set<std::string> dead_;
};

// Of server `port` of the pod.
std::string WorkerKey(const Pod& pod, const PodPort& port);
std::string WorkerUrl(const Pod& pod, const PodPort& port);

}  // namespace baton::router
