#include "transfer/fabric.h"

#include <algorithm>

namespace baton::transfer {

// Where addresses are text they say it themselves.
std::string Fabric::NameOf(std::string_view address) const {
  constexpr size_t kLongest = 128;
  const bool text = address.size() <= kLongest &&
                    std::all_of(address.begin(), address.end(), [](char c) { return c > ' ' && c < 127; });
  return std::string(text ? address : "");
}

}  // namespace baton::transfer
