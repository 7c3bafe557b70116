#include "transfer/blob.h"

#include <limits>

#include "common/bytes.h"
#include "transfer/checksums.h"
#include "transfer/key_bytes.h"

namespace baton::transfer {
namespace {

constexpr uint32_t kMagic = 0x584E5442;  // "BTNX"
constexpr size_t kChecksumBytes = 8;

// Guards against truncation and mix-ups on the way, not against forgers.
uint64_t Fnv1a(std::string_view bytes) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : bytes) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  return hash;
}

Status CheckRange(const char* what, size_t index, uint64_t base, uint64_t bytes) {
  if (bytes == 0 || base > std::numeric_limits<uint64_t>::max() - bytes)
    return Error(Code::kDataCorrupt, "peer description: {} {} has base {:#x} and {} bytes", what,
                 index, base, bytes);
  return Status::Ok();
}

Status ReadBody(ByteReader& reader, PeerBlob& blob) {
  blob.family = reader.GetString(32);
  blob.epoch = reader.Get<uint64_t>();
  blob.key_set = reader.Get<uint32_t>();
  blob.key_set_generation = reader.Get<uint8_t>();
  blob.credits = reader.Get<uint32_t>();
  blob.address = reader.GetString(kMaxAddressBytes);
  blob.mailbox = GetKey(reader);
  blob.marks = GetKey(reader);
  const uint8_t checksums = reader.Get<uint8_t>();
  if (checksums > 1)
    return Error(Code::kDataCorrupt, "peer description: {} where 0 or 1 belongs", checksums);
  blob.wants_checksums = checksums != 0;
  blob.manifest = GetKey(reader);
  const uint32_t count = reader.Get<uint32_t>();
  if (reader.failed() || count > kMaxRegions)
    return Error(Code::kDataCorrupt, "peer description ends early or names {} regions (most: {})",
                 count, kMaxRegions);
  for (uint32_t i = 0; i < count && !reader.failed(); ++i) {
    const MemoryKey key = GetKey(reader);
    blob.regions.push_back({key, reader.Get<uint64_t>()});
  }
  return reader.Finish();
}

Status CheckValues(const PeerBlob& blob) {
  if (blob.key_set >= kMailboxCells || blob.address.empty() || blob.family.empty())
    return Error(Code::kDataCorrupt, "peer description: key set {}, address of {} bytes, family \"{}\"",
                 blob.key_set, blob.address.size(), blob.family);
  if (Status s = CheckRange("mailbox", 0, blob.mailbox.base, kMailboxBytes); !s.ok()) return s;
  if (Status s = CheckRange("marks", 0, blob.marks.base, kMarkBytes); !s.ok()) return s;
  if (blob.wants_checksums)
    if (Status s = CheckRange("manifest", 0, blob.manifest.base, kManifestBytes); !s.ok()) return s;
  for (size_t i = 0; i < blob.regions.size(); ++i) {
    const RemoteRegion& region = blob.regions[i];
    if (Status s = CheckRange("region", i, region.key.base, region.size_bytes); !s.ok()) return s;
  }
  return Status::Ok();
}

}  // namespace

std::string EncodeBlob(const PeerBlob& blob) {
  ByteWriter writer;
  writer.Put(kMagic);
  writer.Put(kProtocolVersion);
  writer.Put(uint16_t{0});
  writer.PutString(blob.family);
  writer.Put(blob.epoch);
  writer.Put(blob.key_set);
  writer.Put(blob.key_set_generation);
  writer.Put(blob.credits);
  writer.PutString(blob.address);
  PutKey(writer, blob.mailbox);
  PutKey(writer, blob.marks);
  writer.Put(static_cast<uint8_t>(blob.wants_checksums));
  PutKey(writer, blob.manifest);
  writer.Put(static_cast<uint32_t>(blob.regions.size()));
  for (const RemoteRegion& region : blob.regions) {
    PutKey(writer, region.key);
    writer.Put(region.size_bytes);
  }
  writer.Put(Fnv1a(writer.bytes()));
  return std::move(writer).bytes();
}

Result<PeerBlob> ParseBlob(std::string_view bytes) {
  constexpr size_t kMinBytes = 8 + kChecksumBytes;
  if (bytes.size() < kMinBytes)
    return Error(Code::kDataCorrupt, "peer description has only {} bytes", bytes.size());
  ByteReader head(bytes.substr(0, 8));
  if (const uint32_t magic = head.Get<uint32_t>(); magic != kMagic)
    return Error(Code::kDataCorrupt, "not a peer description (starts with {:#010x})", magic);
  // The version decides how the rest reads, so it is judged before the checksum.
  if (const uint16_t version = head.Get<uint16_t>(); version != kProtocolVersion)
    return Error(Code::kUnsupported,
                 "peer speaks transfer protocol {}, this build {}: run the same version on both",
                 version, kProtocolVersion);
  if (head.Get<uint16_t>() != 0)
    return Error(Code::kDataCorrupt, "peer description sets reserved bits");
  const std::string_view body = bytes.substr(0, bytes.size() - kChecksumBytes);
  ByteReader tail(bytes.substr(body.size()));
  if (tail.Get<uint64_t>() != Fnv1a(body))
    return Error(Code::kDataCorrupt, "peer description is damaged: its checksum does not match");
  PeerBlob blob;
  ByteReader reader(body.substr(8));
  if (Status s = ReadBody(reader, blob); !s.ok()) return s.Prefixed("peer description");
  if (Status s = CheckValues(blob); !s.ok()) return s;
  return blob;
}

}  // namespace baton::transfer
