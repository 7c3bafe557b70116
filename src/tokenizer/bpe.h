// The merge engine of byte-level BPE: bytes of one pre-token in, token ids out.
//
// Immutable after Make, so any number of threads may encode at once, each with its own scratch.
// A pre-token costs O(n log n): a linear scan while it is short, a heap over a linked list when
// it is long (a "word" of 1 MB is legal input). It knows nothing of text, patterns or specials.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/status.h"

namespace baton::tokenizer {

// One word of the vocabulary: the raw bytes that it stands for.
struct BpeWord {
  std::string bytes;
  int32_t id;
};

// Raw bytes of both sides; the position in the list is the rank (lower merges first).
using BpeMerge = std::pair<std::string, std::string>;

struct BpeOptions {
  bool ignore_merges = false;         // a whole pre-token in the vocabulary is taken at once
  std::optional<int32_t> unknown_id;  // for a byte that has no token; without it that is dropped
  bool fuse_unknown = false;          // adjacent unknown bytes become one unknown token
};

// Buffers of one encoding call, reused from pre-token to pre-token.
struct BpeScratch {
  struct Symbol {
    int32_t id;
    int32_t previous, next;  // indices, -1 at the ends
  };
  struct Candidate {
    uint64_t order;  // rank << 32 | index of the left symbol: lowest rank, then leftmost
    int32_t left_id, right_id;  // what stood there when it was queued: stale if they changed
  };
  std::vector<int32_t> ids;
  std::vector<uint32_t> ranks;
  std::vector<Symbol> symbols;
  std::vector<Candidate> heap;
};

class BpeModel {
 public:
  // kDataCorrupt: two words of the same bytes or an empty word, a merge of or into something that
  // is not a word, more than 2^24 words or merges.
  static Result<BpeModel> Make(std::vector<BpeWord> words, const std::vector<BpeMerge>& merges,
                               const BpeOptions& options);

  BpeModel(BpeModel&&) noexcept;
  BpeModel& operator=(BpeModel&&) noexcept;
  ~BpeModel();

  // Appends the ids of `piece` (raw bytes, under 2^31) to `out`.
  void Encode(std::string_view piece, BpeScratch& scratch, std::vector<int32_t>& out) const;

  // The id of the word that stands for exactly `bytes`.
  std::optional<int32_t> Find(std::string_view bytes) const;

 private:
  struct Impl;
  explicit BpeModel(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace baton::tokenizer
