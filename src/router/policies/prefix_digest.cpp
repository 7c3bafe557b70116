#include "router/policies/prefix_digest.h"

#include <algorithm>
#include <cstring>

namespace baton::router {
namespace {

__extension__ using Wide = unsigned __int128;

// Odd constants with balanced bits (digits of the golden ratio, of sqrt(3) and sqrt(5)).
constexpr uint64_t kSeed = 0x9E37'79B9'7F4A'7C15ull;
constexpr uint64_t kLeft = 0xBB67'AE85'84CA'A73Bull;
constexpr uint64_t kRight = 0x3C6E'F372'FE94'F82Bull;

// Multiply to 128 bits and fold: one instruction that lets every bit reach every other.
uint64_t Fold(uint64_t a, uint64_t b) {
  const Wide product = static_cast<Wide>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

uint64_t Load(const unsigned char* at) {
  uint64_t word;
  std::memcpy(&word, at, 8);
  return word;
}

uint64_t Mix(uint64_t state, const unsigned char* lane) {
  return Fold(state ^ Load(lane) ^ kLeft, Load(lane + 8) ^ kRight);
}

constexpr uint64_t BlockSize(uint64_t position) {
  const uint64_t grown = (position / 8) & ~uint64_t{15};
  return grown < 64 ? 64 : grown;
}

// kEnds[i]: where block i ends.
constexpr auto kEnds = [] {
  std::array<uint64_t, PrefixDigest::kMaxKeys> ends{};
  uint64_t at = 0;
  for (uint64_t& end : ends) {
    at += BlockSize(at);
    end = at;
  }
  return ends;
}();
static_assert(kEnds[53] > 100'000 && kEnds[52] < 100'000 && kEnds[PrefixDigest::kMaxKeys - 2] > (uint64_t{1} << 30));

}  // namespace

uint64_t HashText(std::string_view text, uint64_t seed) {
  uint64_t state = kSeed ^ Fold(seed ^ kLeft, text.size() ^ kRight);
  std::array<unsigned char, 16> lane;
  for (size_t at = 0; at < text.size(); at += lane.size()) {
    lane.fill(0);
    std::memcpy(lane.data(), text.data() + at, std::min(lane.size(), text.size() - at));
    state = Mix(state, lane.data());
  }
  return Fold(state ^ kLeft, kSeed);
}

uint64_t PrefixDigest::BytesUpTo(size_t keys) const {
  if (keys == 0) return 0;
  return keys > whole_ ? bytes_ : kEnds[keys - 1];
}

uint64_t PrefixDigest::KeyAt(uint64_t bytes) const {
  if (count_ == 0) return 0;
  if (bytes >= bytes_) return keys_[count_ - 1];
  const auto end = std::upper_bound(kEnds.begin(), kEnds.begin() + whole_, bytes);
  const auto blocks = static_cast<size_t>(end - kEnds.begin());
  return keys_[blocks == 0 ? 0 : blocks - 1];
}

PrefixDigestBuilder::PrefixDigestBuilder()
    : state_(kSeed), block_left_(BlockSize(0)), block_size_(BlockSize(0)) {}

void PrefixDigestBuilder::Absorb(const unsigned char* lane) { state_ = Mix(state_, lane); }

void PrefixDigestBuilder::CloseBlock() {
  // Block sizes are whole lanes; only the tail of the text leaves a part of one.
  if (lane_used_ > 0) {
    std::fill(lane_.begin() + static_cast<ptrdiff_t>(lane_used_), lane_.end(), 0);
    Absorb(lane_.data());
    lane_used_ = 0;
  }
  // The length tells a block that ends in zeros from a shorter one.
  state_ = Fold(state_ ^ kRight, (block_size_ - block_left_) ^ kSeed);
  digest_.keys_[digest_.count_++] = state_;
}

void PrefixDigestBuilder::Feed(std::string_view piece) {
  digest_.bytes_ += piece.size();
  auto at = reinterpret_cast<const unsigned char*>(piece.data());
  size_t left = piece.size();
  // The last key is kept for the tail.
  while (left > 0 && digest_.count_ + 1 < PrefixDigest::kMaxKeys) {
    const size_t now = static_cast<size_t>(std::min<uint64_t>(left, block_left_));
    const unsigned char* const end = at + now;
    left -= now;
    block_left_ -= now;
    if (lane_used_ > 0) {
      const size_t fill = std::min<size_t>(lane_.size() - lane_used_, static_cast<size_t>(end - at));
      std::memcpy(lane_.data() + lane_used_, at, fill);
      lane_used_ += fill;
      at += fill;
      if (lane_used_ == lane_.size()) {
        Absorb(lane_.data());
        lane_used_ = 0;
      }
    }
    for (; end - at >= 16; at += 16) Absorb(at);
    if (at < end) {
      lane_used_ = static_cast<size_t>(end - at);
      std::memcpy(lane_.data(), at, lane_used_);
      at = end;
    }
    if (block_left_ > 0) continue;
    CloseBlock();
    digest_.whole_ = digest_.count_;
    block_size_ = block_left_ = BlockSize(kEnds[digest_.count_ - 1]);
  }
}

const PrefixDigest& PrefixDigestBuilder::Finish() {
  if (block_left_ < block_size_) CloseBlock();
  return digest_;
}

}  // namespace baton::router
