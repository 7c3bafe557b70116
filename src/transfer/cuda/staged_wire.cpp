#include "transfer/cuda/staged_wire.h"

#include "common/bytes.h"
#include "transfer/key_bytes.h"

namespace baton::transfer::cuda {
namespace {

constexpr uint32_t kAddressMagic = 0x31534342;  // "BCS1"
constexpr size_t kMaxInner = 4096;

}  // namespace

std::string EncodeAddress(const StagedAddress& address) {
  ByteWriter writer;
  writer.Put(kAddressMagic);
  writer.PutString(address.inner);
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

std::string EncodeIntroduction(const Introduction& introduction) {
  ByteWriter writer;
  writer.PutString(introduction.inner);
  writer.Put(introduction.writer);
  writer.Put(introduction.tag);
  PutKey(writer, introduction.key);
  return std::move(writer).bytes();
}

Result<Introduction> ParseIntroduction(std::string_view bytes) {
  ByteReader reader(bytes);
  Introduction introduction;
  introduction.inner = reader.GetString(kMaxInner);
  introduction.writer = reader.Get<uint32_t>();
  introduction.tag = reader.Get<uint64_t>();
  introduction.key = GetKey(reader);
  if (Status s = reader.Finish(); !s.ok()) return s;
  if (introduction.writer >= 1u << 28) return Error(Code::kDataCorrupt, "a writer introduces itself as {}", introduction.writer);
  return introduction;
}

CellAck MakeAck(uint64_t tag, uint64_t landed, uint64_t error) {
  // Read while the next one may be coming in: halves of two must not pass for one.
  const uint64_t check = (tag ^ landed * 0x9E3779B97F4A7C15u ^ error << 48) + 0xD1B54A32D192ED03u;
  return {.tag = tag, .landed = landed, .error = error, .check = check};
}

}  // namespace baton::transfer::cuda
