// A prompt as a chain of block hashes: what the prefix-aware policies compare instead of text.
//
// The text is cut at fixed positions: every 64 bytes at first, then blocks grow to an eighth of
// what lies before them, so that 100 KB make some 50 blocks and a match is known to an eighth of its
// length. Key i is the hash of everything up to the end of block i, which makes the keys of two
// prompts equal exactly as far as their texts agree (a chance of 2^-64 aside). What is left after
// the last whole block is one more key, so that equal texts match to their end.
//
// The hash has no secret seed: replicas of a router must agree on it, and all that a made-up
// collision can do is send its own author's prompt to a worker without a cache for it.
// Pure; a builder belongs to one thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace baton::router {

// Well mixed 64 bits of a short text; the same on every machine and in every run.
uint64_t HashText(std::string_view text, uint64_t seed = 0);

class PrefixDigest {
 public:
  static constexpr size_t kMaxKeys = 160;  // more than 1 GiB of text

  std::span<const uint64_t> keys() const { return {keys_.data(), count_}; }
  bool empty() const { return count_ == 0; }
  // Bytes of the text, also of what lies beyond the last block that can be told apart.
  uint64_t bytes() const { return bytes_; }
  // Bytes covered by the first `keys` keys.
  uint64_t BytesUpTo(size_t keys) const;
  // The key that stands for the first `bytes` bytes (rounded down to a block; at least one block),
  // 0 for an empty text.
  uint64_t KeyAt(uint64_t bytes) const;

 private:
  friend class PrefixDigestBuilder;
  std::array<uint64_t, kMaxKeys> keys_;
  uint32_t count_ = 0;
  uint32_t whole_ = 0;  // of the keys, those of whole blocks
  uint64_t bytes_ = 0;
};

// Takes the text in pieces; how it is cut into pieces does not matter.
class PrefixDigestBuilder {
 public:
  PrefixDigestBuilder();
  void Feed(std::string_view piece);
  void Feed(char byte) { Feed(std::string_view(&byte, 1)); }
  // Ends the text; the builder cannot be used again.
  const PrefixDigest& Finish();

 private:
  void CloseBlock();
  void Absorb(const unsigned char* lane);

  PrefixDigest digest_;
  uint64_t state_;
  uint64_t block_left_;  // bytes until the block is whole
  uint64_t block_size_;
  std::array<unsigned char, 16> lane_{};
  size_t lane_used_ = 0;
};

}  // namespace baton::router
