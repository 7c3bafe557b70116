#include "transfer/staged/wire.h"

#include <cstring>

#include "common/bytes.h"
#include "transfer/blob.h"
#include "transfer/key_bytes.h"
#include "transfer/mail.h"

namespace baton::transfer::staged {
namespace {

constexpr uint32_t kAddressMagic = 0x33534342;  // "BCS3"
constexpr size_t kMaxInner = kMaxAddressBytes - 256;

}  // namespace

std::string EncodeAddress(const StagedAddress& address) {
  ByteWriter writer;
  writer.Put(kAddressMagic);
  writer.PutString(address.inner);
  writer.Put(address.writer);
  PutKey(writer, address.board);
  writer.Put(address.takes);
  if (address.takes) {
    writer.Put(address.area);
    writer.Put(address.tag);
    PutKey(writer, address.key);
  }
  return std::move(writer).bytes();
}

Result<StagedAddress> ParseAddress(std::string_view bytes) {
  ByteReader reader(bytes);
  StagedAddress address;
  const auto magic = reader.Get<uint32_t>();
  address.inner = reader.GetString(kMaxInner);
  address.writer = reader.Get<uint64_t>();
  address.board = GetKey(reader);
  address.takes = reader.Get<uint8_t>();
  if (address.takes) {
    address.area = reader.Get<uint32_t>();
    address.tag = reader.Get<uint64_t>();
    address.key = GetKey(reader);
  }
  constexpr uint8_t kAll = StagedAddress::kDevice | StagedAddress::kHost;
  if (magic != kAddressMagic || address.takes > kAll || address.area >= kMaxAreas || !reader.Finish().ok())
    return Error(Code::kDataCorrupt, "an address of {} bytes is none of this transfer engine", bytes.size());
  return address;
}

uint64_t HeaderCheck(FrameHeader header) {
  header.again = 0;  // may be set while it is read
  return MailCheck(header);
}

// An entry of an earlier frame, or of another area, is none of this one's.
uint64_t EntryCheck(const FrameHeader& header, const FrameEntry& entry) {
  return MailCheck(entry) ^ (header.tag + header.sequence);
}

FrameReader::FrameReader(const std::byte* frame, uint64_t room) {
  if (room < sizeof header_) return;
  std::memcpy(&header_, frame, sizeof header_);
  sound_ = header_.check == HeaderCheck(header_) && header_.entries > 0 && header_.entries <= kMaxEntries &&
           header_.bytes <= kMostFrameBytes && header_.bytes <= room - sizeof header_ && header_.place < kMaxRings;
  at_ = frame + sizeof header_;
  left_ = header_.bytes;
}

bool FrameReader::Next(FrameEntry& entry, const std::byte*& bytes) {
  if (!sound_ || AtEnd() || left_ < sizeof entry) return false;
  std::memcpy(&entry, at_, sizeof entry);
  if (entry.check != EntryCheck(header_, entry) || entry.bytes == 0 || entry.bytes > kMaxStagedBytes) return false;
  const uint32_t span = EntrySpan(entry.bytes);
  if (span > left_) return false;
  bytes = at_ + sizeof entry;
  at_ += span;
  left_ -= span;
  ++read_;
  return true;
}

FrameAck MakeAck(uint64_t tag, uint64_t landed, uint64_t error) {
  // Read while the next one may be coming in: halves of two must not pass for one.
  FrameAck ack{.tag = tag, .landed = landed, .error = error};
  ack.check = MailCheck(ack);
  return ack;
}

}  // namespace baton::transfer::staged
