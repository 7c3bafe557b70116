// What a peer says of its rails: comes from another machine.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "transfer/rails/invitation.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace baton::transfer;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto rails = ParseRails(bytes);
  // What was accepted is exactly what it says.
  if (rails.ok() && EncodeRails(*rails) != bytes) std::abort();
  return 0;
}
