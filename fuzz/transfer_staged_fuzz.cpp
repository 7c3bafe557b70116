// What one staging end reads of another: addresses, and the frames of an area that a hostile writer
// fills. No entry may reach further than its frame or claim more than a write can hold, and no frame further
// than its area.
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "transfer/staged/incoming_area.h"

namespace {

using namespace baton;
using namespace baton::transfer;

// A fabric that takes everything and does nothing.
class SilentFabric final : public Fabric {
 public:
  const FabricTraits& traits() const override { return traits_; }
  std::string Address() const override { return "here"; }
  Result<uint32_t> Register(MemorySpan) override { return 0u; }
  void Unregister(uint32_t) override {}
  Result<MemoryKey> Expose(uint32_t) override { return MemoryKey{0, 1}; }
  void Revoke(const MemoryKey&) override {}
  Result<uint64_t> Insert(std::string_view) override { return uint64_t{1}; }
  void Remove(uint64_t) override {}
  PostResult Write(const WriteRequest&, TimePoint, Status&) override { return PostResult::kPosted; }
  size_t Poll(TimePoint, std::span<Completion>) override { return 0; }

 private:
  FabricTraits traits_;
};

// The bytes of an input, one thing after another.
struct Input {
  std::string_view left;
  template <typename T>
  bool Get(T& value) {
    if (left.size() < sizeof value) return false;
    std::memcpy(&value, left.data(), sizeof value);
    left.remove_prefix(sizeof value);
    return true;
  }
};

constexpr uint8_t kTrueTag = 1, kTrueSequence = 2, kTrueChecks = 4;
constexpr uint64_t kTarget = 4096;

// A frame of the input: its imm, a byte of what shall be as an honest writer does it, header, and entries each
// with a byte that tells how many of its bytes follow. False at the input's end.
bool WriteFrame(Input& input, std::byte* memory, uint64_t tag, uint64_t sequence, uint32_t& offset) {
  uint32_t imm;
  uint8_t honest;
  staged::FrameHeader header;
  if (!input.Get(imm) || !input.Get(honest) || !input.Get(header)) return false;
  offset = staged::RingOffsetOf(imm);
  if (honest & kTrueTag) header.tag = tag;
  if (honest & kTrueSequence) header.sequence = sequence;
  header.entries %= staged::kMaxEntries + 2;
  if (honest & kTrueChecks) header.check = HeaderCheck(header);
  std::memcpy(memory + offset, &header, sizeof header);
  uint64_t at = offset + sizeof header;
  for (uint32_t i = 0; i < header.entries; ++i) {
    staged::FrameEntry entry;
    uint8_t body;
    if (!input.Get(entry) || !input.Get(body)) return true;
    if (honest & kTrueChecks) entry.check = EntryCheck(header, entry);
    const uint64_t span = staged::EntrySpan(body);
    if (at + span > staged::kRingBytes) return true;
    std::memcpy(memory + at, &entry, sizeof entry);
    const size_t given = std::min<size_t>(body, input.left.size());
    std::memcpy(memory + at + sizeof entry, input.left.data(), given);
    input.left.remove_prefix(given);
    at += span;
  }
  return true;
}

void FillArea(std::string_view bytes) {
  static const auto fabric = std::make_shared<SilentFabric>();
  static std::unique_ptr<staged::Staging> staging = *staged::Staging::Create(fabric);
  static std::byte target[kTarget];
  std::byte* const memory = staging->data();
  staged::IncomingArea area(*fabric, 3, std::move(staging));
  staged::StagedAddress address;
  if (!area.Open(address).ok()) std::abort();
  uint64_t sequence = 0, taken = 0, landed = 0;
  Input input{bytes};
  for (uint32_t offset = 0; WriteFrame(input, memory, address.tag, sequence, offset);) {
    area.OnFrame(offset);
    area.Take([&](const staged::FrameEntry& entry) -> staged::EntryTarget {
      if (entry.bytes == 0 || entry.bytes > staged::kMaxStagedBytes) std::abort();
      if (entry.key != 7) return {.error = EKEYREVOKED};
      if (entry.bytes > kTarget || entry.address > kTarget - entry.bytes) return {.error = ERANGE};
      ++taken;
      return {.place = target + entry.address};
    });
    area.Land([&](Completion arrived) {
      if (arrived.bytes == 0 || arrived.bytes > kTarget) std::abort();
      ++landed;
    });
    if (taken != landed || area.HasCopies()) std::abort();
    if (area.HasToTell()) area.Tell(1, {}, TimePoint{});
    ++sequence;
  }
  area.Close();
  staging = area.TakeStaging();
}

// As FillArea, but one frame at the very end of memory: what reads too far is caught by a sanitizer.
void ReadAtTheEnd(std::string_view bytes) {
  const auto memory = std::make_unique<std::byte[]>(bytes.size());
  std::memcpy(memory.get(), bytes.data(), bytes.size());
  if (bytes.size() >= sizeof(staged::FrameHeader)) {
    staged::FrameHeader header;
    std::memcpy(&header, memory.get(), sizeof header);
    header.check = HeaderCheck(header);
    std::memcpy(memory.get(), &header, sizeof header);
    // Each entry gets the check that it needs, as far as there are any.
    for (size_t at = sizeof header; at + sizeof(staged::FrameEntry) <= bytes.size();) {
      staged::FrameEntry entry;
      std::memcpy(&entry, memory.get() + at, sizeof entry);
      entry.check = EntryCheck(header, entry);
      std::memcpy(memory.get() + at, &entry, sizeof entry);
      if (entry.bytes > staged::kMaxStagedBytes) break;
      at += staged::EntrySpan(entry.bytes);
    }
  }
  staged::FrameReader frame(memory.get(), bytes.size());
  staged::FrameEntry entry;
  uint64_t sum = 0;
  for (const std::byte* body = nullptr; frame.Next(entry, body);)
    for (uint32_t i = 0; i < entry.bytes; ++i) sum += static_cast<uint8_t>(body[i]);
  if (sum == ~uint64_t{0}) std::abort();  // so that it is read
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace baton::transfer::staged;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (auto address = ParseAddress(bytes); address.ok()) {
    if (address->area >= kMaxAreas) std::abort();
    auto again = ParseAddress(EncodeAddress(*address));
    if (!again.ok() || !(*again == *address)) std::abort();
  }
  if (size >= 4) {
    uint32_t imm;
    std::memcpy(&imm, data, sizeof imm);
    if (AreaOf(imm) >= kMaxAreas || RingOffsetOf(imm) > kRingBytes - kFrameUnit) std::abort();
  }
  FillArea(bytes);
  ReadAtTheEnd(bytes);
  return 0;
}
