#include "kernels/paged_kv.h"

#include <fmt/format.h>

namespace baton::kernels {

std::string KvLayout::ToString() const {
  return fmt::format("{} layers, pages of {} tokens, {} heads of {}, {}", layers, page_tokens,
                     kv_heads, head_dim, InfoOf(dtype).name);
}

}  // namespace baton::kernels
