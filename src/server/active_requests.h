// Which request ids of clients ("rid") run right now, for /abort_request. Thread-safe.
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "common/ids.h"

namespace baton::server {

class ActiveRequests {
 public:
  void Add(const std::string& rid, RequestId id) {
    std::lock_guard lock(mutex_);
    by_rid_.emplace(rid, id);
  }
  void Remove(const std::string& rid, RequestId id) {
    std::lock_guard lock(mutex_);
    auto [first, last] = by_rid_.equal_range(rid);
    for (; first != last; ++first) {
      if (first->second == id) {
        by_rid_.erase(first);
        return;
      }
    }
  }
  // Ids of `rid` itself and of the sequences made from it ("rid_0", "rid_1" ...). SGLang matches
  // any prefix, which aborts strangers; we do not.
  std::vector<RequestId> Find(std::string_view rid) const {
    std::lock_guard lock(mutex_);
    std::vector<RequestId> out;
    for (auto it = by_rid_.lower_bound(rid); it != by_rid_.end() && it->first.starts_with(rid); ++it) {
      const std::string_view rest = std::string_view(it->first).substr(rid.size());
      if (rest.empty() || rest.front() == '_') out.push_back(it->second);
    }
    return out;
  }
  std::vector<RequestId> All() const {
    std::lock_guard lock(mutex_);
    std::vector<RequestId> out;
    for (const auto& [rid, id] : by_rid_) out.push_back(id);
    return out;
  }

 private:
  mutable std::mutex mutex_;
  std::multimap<std::string, RequestId, std::less<>> by_rid_;
};

}  // namespace baton::server
