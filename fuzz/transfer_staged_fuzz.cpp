// What one staging end reads of another: addresses, and the cells of an area that a hostile writer
// fills. No cell may reach further than its area or claim more than a write can hold.
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "transfer/cuda/staging.h"

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

// Input: cells of {u32 immediate, u8 bytes of body, header without its tag, body}.
void FillArea(std::string_view bytes) {
  static const auto fabric = std::make_shared<SilentFabric>();
  static std::unique_ptr<cuda::Staging> staging = *cuda::Staging::Create(fabric);
  std::byte* const memory = staging->data();
  cuda::IncomingArea area(*fabric, 3, std::move(staging), {7});
  cuda::StagedAddress address;
  if (!area.Open(address).ok()) std::abort();
  const uint64_t tag = address.tag;
  constexpr size_t kHead = 5 + sizeof(cuda::CellHeader) - sizeof tag;
  while (bytes.size() >= kHead) {
    uint32_t imm;
    std::memcpy(&imm, bytes.data(), sizeof imm);
    const uint32_t offset = cuda::RingOffsetOf(imm);
    const size_t body = std::min<size_t>({static_cast<uint8_t>(bytes[4]), bytes.size() - kHead,
                                          cuda::kRingBytes - offset - sizeof(cuda::CellHeader)});
    std::memcpy(memory + offset, &tag, sizeof tag);
    std::memcpy(memory + offset + sizeof tag, bytes.data() + 5, kHead - 5);
    std::memcpy(memory + offset + sizeof(cuda::CellHeader), bytes.data() + kHead, body);
    bytes.remove_prefix(kHead + body);
    area.OnCell(offset);
    area.Take([](const cuda::CellHeader& header) {
      if (header.bytes == 0 || header.bytes > cuda::kMaxStagedBytes) std::abort();
      return cuda::CellTarget{.error = EKEYREVOKED};
    });
    area.Land([](Completion) { std::abort(); });
    if (area.HasToTell()) area.Tell(1, {}, TimePoint{});
  }
  area.Close();
  staging = area.TakeStaging();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace baton::transfer::cuda;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (auto address = ParseAddress(bytes); address.ok()) {
    if (address->area >= kMaxAreas) std::abort();
    auto again = ParseAddress(EncodeAddress(*address));
    if (!again.ok() || !(*again == *address)) std::abort();
  }
  if (size >= 4) {
    uint32_t imm;
    std::memcpy(&imm, data, sizeof imm);
    if (AreaOf(imm) >= kMaxAreas || RingOffsetOf(imm) > kRingBytes - kCellUnit) std::abort();
  }
  FillArea(bytes);
  return 0;
}
