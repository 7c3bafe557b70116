// Peer descriptions and immediates, the two things that the transfer engine reads from others.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "transfer/blob.h"
#include "transfer/imm.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace baton::transfer;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (auto blob = ParseBlob(bytes); blob.ok()) {
    // What was accepted must survive a round trip.
    auto again = ParseBlob(EncodeBlob(*blob));
    if (!again.ok() || !(*again == *blob)) std::abort();
  }
  // The checksum keeps most inputs out, so also try them with a right one: the body is what a
  // hostile peer controls.
  if (size >= 8) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (const char c : bytes) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
    std::string sealed(bytes);
    sealed.append(reinterpret_cast<const char*>(&hash), sizeof hash);
    if (auto blob = ParseBlob(sealed); blob.ok() && EncodeBlob(*blob) != sealed) std::abort();
    uint32_t bits;
    __builtin_memcpy(&bits, data, sizeof bits);
    if (PackImm(UnpackImm(bits)) != bits) std::abort();
  }
  return 0;
}
