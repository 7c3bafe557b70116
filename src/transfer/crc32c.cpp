#include "transfer/crc32c.h"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace baton::transfer {
namespace {

constexpr uint32_t kPolynomial = 0x82F63B78;  // reflected

constexpr std::array<std::array<uint32_t, 256>, 8> MakeTables() {
  std::array<std::array<uint32_t, 256>, 8> tables{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (crc & 1 ? kPolynomial : 0);
    tables[0][i] = crc;
  }
  for (size_t t = 1; t < 8; ++t)
    for (uint32_t i = 0; i < 256; ++i)
      tables[t][i] = (tables[t - 1][i] >> 8) ^ tables[0][tables[t - 1][i] & 255];
  return tables;
}
constexpr auto kTables = MakeTables();

uint64_t Load(const std::byte* at) {
  uint64_t word;
  std::memcpy(&word, at, sizeof word);
  return word;
}

#if defined(__x86_64__)
// Appending kLane zero bytes to a message maps its CRC linearly; tabled by byte of the CRC. Three
// lanes then run side by side and hide the instruction's latency of three cycles.
constexpr size_t kLane = 1024;

constexpr std::array<std::array<uint32_t, 256>, 4> MakeLaneTables() {
  std::array<uint32_t, 32> of_bit{};
  for (int bit = 0; bit < 32; ++bit) {
    uint32_t crc = 1u << bit;
    for (size_t i = 0; i < kLane; ++i) crc = (crc >> 8) ^ kTables[0][crc & 255];
    of_bit[bit] = crc;
  }
  std::array<std::array<uint32_t, 256>, 4> tables{};
  for (int byte = 0; byte < 4; ++byte)
    for (uint32_t value = 0; value < 256; ++value)
      for (int bit = 0; bit < 8; ++bit)
        if (value >> bit & 1) tables[byte][value] ^= of_bit[8 * byte + bit];
  return tables;
}
constexpr auto kLaneTables = MakeLaneTables();

uint32_t PastLane(uint64_t crc) {
  return kLaneTables[0][crc & 255] ^ kLaneTables[1][crc >> 8 & 255] ^
         kLaneTables[2][crc >> 16 & 255] ^ kLaneTables[3][crc >> 24 & 255];
}

__attribute__((target("sse4.2"))) uint32_t Crc32cHardware(const std::byte* data, size_t bytes) {
  uint64_t crc = ~0u;
  for (; bytes >= 3 * kLane; data += 3 * kLane, bytes -= 3 * kLane) {
    uint64_t second = 0, third = 0;
    for (size_t i = 0; i < kLane; i += 8) {
      crc = _mm_crc32_u64(crc, Load(data + i));
      second = _mm_crc32_u64(second, Load(data + kLane + i));
      third = _mm_crc32_u64(third, Load(data + 2 * kLane + i));
    }
    crc = PastLane(PastLane(crc) ^ second) ^ third;
  }
  for (; bytes >= 8; data += 8, bytes -= 8) crc = _mm_crc32_u64(crc, Load(data));
  auto narrow = static_cast<uint32_t>(crc);
  for (; bytes; ++data, --bytes) narrow = _mm_crc32_u8(narrow, static_cast<uint8_t>(*data));
  return ~narrow;
}
#endif

}  // namespace

uint32_t Crc32cPortable(const std::byte* data, size_t bytes) {
  uint32_t crc = ~0u;
  for (; bytes >= 8; data += 8, bytes -= 8) {
    const uint64_t word = Load(data) ^ crc;
    crc = 0;
    for (int i = 0; i < 8; ++i) crc ^= kTables[7 - i][word >> (8 * i) & 255];
  }
  for (; bytes; ++data, --bytes) crc = (crc >> 8) ^ kTables[0][(crc ^ static_cast<uint8_t>(*data)) & 255];
  return ~crc;
}

uint32_t Crc32c(const std::byte* data, size_t bytes) {
#if defined(__x86_64__)
  static const bool hardware = __builtin_cpu_supports("sse4.2");
  if (hardware) return Crc32cHardware(data, bytes);
#endif
  return Crc32cPortable(data, bytes);
}

}  // namespace baton::transfer
