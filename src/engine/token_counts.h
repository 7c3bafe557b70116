// How often each token id occurs in one request: what the penalties need. Open addressing, so that
// one more output token costs one probe and no allocation (growth doubles, hence is rare).
#pragma once

#include <bit>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "api/sampling.h"

namespace baton::engine {

// Whether a request's counts are needed at all.
inline bool HasPenalties(const api::SamplingParams& sampling) {
  return sampling.frequency_penalty != 0 || sampling.presence_penalty != 0 ||
         sampling.repetition_penalty != 1;
}

class TokenCounts {
 public:
  struct Entry {
    int32_t token = -1;   // -1: empty slot
    int32_t outputs = 0;  // 0: only the prompt has it
  };

  void AddPrompt(std::span<const int32_t> tokens) {
    Rehash(std::bit_ceil(tokens.size() * 2 + 64));
    for (const int32_t token : tokens) Slot(token);
  }
  void AddOutput(int32_t token) {
    if ((used_ + 1) * 2 > slots_.size()) Rehash(slots_.empty() ? 64 : slots_.size() * 2);
    ++Slot(token).outputs;
  }

  // All slots, empty ones among them; penalties touch each token once, so order does not matter.
  std::span<const Entry> slots() const { return slots_; }

 private:
  Entry& Slot(int32_t token) {
    size_t i = static_cast<uint32_t>(token) * size_t{2654435761u};
    for (;; ++i) {
      Entry& entry = slots_[i & (slots_.size() - 1)];
      if (entry.token == token) return entry;
      if (entry.token < 0) {
        entry.token = token;
        ++used_;
        return entry;
      }
    }
  }
  void Rehash(size_t size) {
    std::vector<Entry> old = std::exchange(slots_, std::vector<Entry>(size));
    used_ = 0;
    for (const Entry& entry : old) {
      if (entry.token >= 0) Slot(entry.token).outputs = entry.outputs;
    }
  }

  std::vector<Entry> slots_;
  size_t used_ = 0;
};

}  // namespace baton::engine
