#include "model/text.h"

#include <fmt/format.h>

namespace baton::model {

std::string Quote(std::string_view name) {
  constexpr size_t kMaxBytes = 80;
  std::string out = "'";
  for (const char c : name.substr(0, kMaxBytes)) {
    const auto u = static_cast<unsigned char>(c);
    if (u < 0x20 || u > 0x7e) out += fmt::format("\\x{:02x}", u);
    else out += c;
  }
  if (name.size() > kMaxBytes) out += "...";
  return out + "'";
}

}  // namespace baton::model
