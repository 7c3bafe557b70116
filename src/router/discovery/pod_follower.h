// Follows the pods of a cluster by the list + watch protocol: says which request comes next, and
// digests what came of it. A pure state machine: no clock, no I/O (kube_source.cpp has them).
//
// list in pages (limit, continue) -> watch from the list's resourceVersion, with bookmarks -> when the
// watch ends, watch again from the last version seen -> on 410 Gone, as a status or as an ERROR event,
// list again. Nothing known is given up while the server cannot be asked: only a complete list, or an
// event, removes a pod.
#pragma once

#include <cstdint>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "router/discovery/pod_table.h"

namespace baton::router {

class PodFollower {
 public:
  PodFollower(KubeOptions options, bool pd, uint64_t seed);

  struct Request {
    bool watch = false;
    std::string target;       // path and query
    Duration wait{};          // before it is sent
    Duration server_timeout{};  // of a watch: the server ends it after this time
  };
  Request Next();

  // A list came back, whatever its status.
  void OnList(int status, std::string_view body, Duration retry_after = {});
  // The watch was refused before its stream began.
  void OnWatchRefused(int status, std::string_view body, Duration retry_after = {});
  // One line of the watch's stream; false: drop the stream, what comes next follows from this line.
  bool OnWatchLine(std::string_view line);
  // The stream cannot be read any further (a line without end).
  void OnWatchGarbled(std::string reason);
  // The stream ended, cleanly or not, after `lasted`. `reason` is for the log, "" when it is usual.
  void OnWatchEnd(Duration lasted, std::string_view reason = {});
  // No answer to a list or a watch.
  void OnUnreachable(std::string_view reason);

  // Has a complete list come yet?
  bool synced() const { return synced_; }
  // Has what Wanted() says changed since the last call?
  bool TakeChanged() { return std::exchange(changed_, false); }
  std::vector<WantedWorker> Wanted() const { return table_.Wanted(); }
  std::set<std::string> TakeDead() { return table_.TakeDead(); }

  // What is wrong now, for people; "" when all is well.
  const std::string& problem() const { return problem_; }
  // Annotations that were ignored since the last call.
  std::vector<std::string> TakeWarnings() { return std::exchange(warnings_, {}); }

 private:
  void Fail(std::string problem, Duration retry_after = {});
  void Refused(std::string_view what, int status, std::string_view body, Duration retry_after);
  void ListAgain();
  void OnGone();
  bool OnEvent(const json::object& event);
  void Note(const Pod& pod);

  const KubeOptions options_;
  const bool pd_;
  const std::string base_;  // path and selector
  std::mt19937_64 random_;
  PodTable table_;
  std::vector<Pod> pages_;       // of the list under way
  std::string continue_;         // token of the next page
  std::string version_;          // to watch from; "": list first
  bool whole_list_ = false;      // pages expired under way: ask for all at once
  bool synced_ = false;
  bool changed_ = false;
  int failures_ = 0;             // in a row
  int gone_ = 0;                 // 410s in a row, without an event in between
  Duration retry_after_{};
  std::string problem_;
  std::vector<std::string> warnings_;
  std::set<std::string> warned_;  // "uid warning", so that each is told once
};

}  // namespace baton::router
