#include "transfer/rails/invitation.h"

#include "common/bytes.h"
#include "transfer/blob.h"
#include "transfer/key_bytes.h"

namespace baton::transfer {
namespace {

constexpr uint32_t kMagic = 0x524E5442;  // "BTNR"
constexpr uint8_t kVersion = 1;
constexpr size_t kMaxRailAddressBytes = 256;
constexpr size_t kMaxKeys = kMaxRegions + 2;  // and mailbox and manifest

}  // namespace

std::string EncodeRails(const RailsInvitation& invitation) {
  ByteWriter writer;
  writer.Put(kMagic);
  writer.Put(kVersion);
  writer.Put(static_cast<uint8_t>(invitation.rails.size()));
  for (const RailsInvitation::Rail& rail : invitation.rails) {
    writer.PutString(rail.address);
    writer.Put(static_cast<uint8_t>(rail.renews_keys));
    PutKey(writer, rail.pad);
  }
  writer.Put(static_cast<uint32_t>(invitation.ids.size()));
  for (size_t i = 0; i < invitation.ids.size(); ++i) {
    writer.Put(invitation.ids[i]);
    for (size_t r = 0; r < invitation.rails.size(); ++r)
      PutKey(writer, invitation.keys[i * invitation.rails.size() + r]);
  }
  return std::move(writer).bytes();
}

Result<RailsInvitation> ParseRails(std::string_view bytes) {
  ByteReader reader(bytes);
  const auto magic = reader.Get<uint32_t>();
  const auto version = reader.Get<uint8_t>();
  const auto rails = reader.Get<uint8_t>();
  if (reader.failed() || magic != kMagic || version != kVersion || rails == 0 || rails > kMaxRails)
    return Error(Code::kDataCorrupt, "the peer's rails: magic {:#010x}, version {}, {} rails (most: {})",
                 magic, version, rails, kMaxRails);
  RailsInvitation invitation;
  for (uint8_t r = 0; r < rails && !reader.failed(); ++r) {
    RailsInvitation::Rail rail;
    rail.address = reader.GetString(kMaxRailAddressBytes);
    const auto renews = reader.Get<uint8_t>();
    rail.pad = GetKey(reader);
    if (rail.address.empty() || renews > 1)
      return Error(Code::kDataCorrupt, "the peer's rail {} has an address of {} bytes and {} where 0 or 1 belongs",
                   r, rail.address.size(), renews);
    rail.renews_keys = renews != 0;
    invitation.rails.push_back(std::move(rail));
  }
  const auto count = reader.Get<uint32_t>();
  if (reader.failed() || count > kMaxKeys)
    return Error(Code::kDataCorrupt, "the peer's rails end early or name {} keys (most: {})", count, kMaxKeys);
  for (uint32_t i = 0; i < count && !reader.failed(); ++i) {
    invitation.ids.push_back(reader.Get<uint64_t>());
    for (uint8_t r = 0; r < rails; ++r) invitation.keys.push_back(GetKey(reader));
  }
  if (Status s = reader.Finish(); !s.ok()) return s.Prefixed("the peer's rails");
  return invitation;
}

}  // namespace baton::transfer
