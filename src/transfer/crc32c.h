// CRC-32C (Castagnoli, RFC 3720 appendix B.4), by the processor's instruction where it has one.
#pragma once

#include <cstddef>
#include <cstdint>

namespace baton::transfer {

uint32_t Crc32c(const std::byte* data, size_t bytes);
// The same by tables, whatever the processor; for tests.
uint32_t Crc32cPortable(const std::byte* data, size_t bytes);

}  // namespace baton::transfer
