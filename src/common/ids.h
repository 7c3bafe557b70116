// Strong integer ids: a page number cannot be passed where a request id is wanted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

namespace baton {

template <typename Tag, typename Rep>
struct StrongId {
  Rep value{};
  friend constexpr auto operator<=>(StrongId, StrongId) = default;
};

struct RequestTag;
using RequestId = StrongId<RequestTag, uint64_t>;  // Unique within a process, never reused.

// Index of a KV page in its pool. A plain integer: page tables are arrays that kernels read.
using PageId = int32_t;

}  // namespace baton

template <typename Tag, typename Rep>
struct std::hash<baton::StrongId<Tag, Rep>> {
  size_t operator()(baton::StrongId<Tag, Rep> id) const noexcept {
    return std::hash<Rep>()(id.value);
  }
};
