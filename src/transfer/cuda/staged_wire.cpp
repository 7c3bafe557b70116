#include "transfer/cuda/staged_wire.h"

#include "common/bytes.h"
#include "transfer/blob.h"
#include "transfer/key_bytes.h"

namespace baton::transfer::cuda {
namespace {

constexpr uint32_t kAddressMagic = 0x32534342;  // "BCS2"
constexpr size_t kMaxInner = kMaxAddressBytes - 256;

}  // namespace

std::string EncodeAddress(const StagedAddress& address) {
  ByteWriter writer;
  writer.Put(kAddressMagic);
  writer.PutString(address.inner);
  writer.Put(address.writer);
  PutKey(writer, address.board);
  writer.Put(static_cast<uint8_t>(address.has_area));
  if (address.has_area) {
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
  const auto has_area = reader.Get<uint8_t>();
  address.has_area = has_area != 0;
  if (address.has_area) {
    address.area = reader.Get<uint32_t>();
    address.tag = reader.Get<uint64_t>();
    address.key = GetKey(reader);
  }
  if (magic != kAddressMagic || has_area > 1 || address.area >= kMaxAreas || !reader.Finish().ok())
    return Error(Code::kDataCorrupt, "an address of {} bytes is none of this transfer engine", bytes.size());
  return address;
}

CellAck MakeAck(uint64_t tag, uint64_t landed, uint64_t error) {
  // Read while the next one may be coming in: halves of two must not pass for one.
  const uint64_t check = (tag ^ landed * 0x9E3779B97F4A7C15u ^ error << 48) + 0xD1B54A32D192ED03u;
  return {.tag = tag, .landed = landed, .error = error, .check = check};
}

}  // namespace baton::transfer::cuda
