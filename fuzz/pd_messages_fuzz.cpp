// Bodies of the bootstrap port: PeerInfo, Hello, Grant, Cancel, and the frames of a grant's answer, fed in
// pieces. What decodes must encode to the same bytes again.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "disagg/messages.h"

namespace d = baton::disagg;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (const auto info = d::DecodePeerInfo(bytes); info.ok() && d::Encode(*info) != bytes) __builtin_trap();
  if (const auto hello = d::DecodeHello(bytes); hello.ok() && *hello && !bytes.starts_with(d::EncodeHello(**hello))) {
    __builtin_trap();
  }
  if (const auto cancel = d::DecodeCancel(bytes); cancel.ok() && d::Encode(*cancel) != bytes) __builtin_trap();
  if (const auto grant = d::DecodeGrant(bytes); grant.ok() && d::Encode(*grant).size() != bytes.size()) __builtin_trap();
  d::FrameParser parser;
  for (size_t at = 0; at < bytes.size(); at += 7) {
    parser.Feed(bytes.substr(at, 7));
    while (true) {
      auto frame = parser.Next();
      if (!frame.ok()) return 0;
      if (!frame->has_value()) break;
    }
  }
  return 0;
}
