// Several writes with one immediate: which writes each posted immediate stands for.
//
// Where bytes and immediate are posted apart, the immediates of writes that follow each other to the
// same peer with the same immediate are one message, whose upper 32 bits of data tell how many writes
// it speaks for. For pages of 4 KiB this nearly halves the messages.
//
// Fixed size, no allocation after Reserve. Owner thread only.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "transfer/fabric.h"

namespace baton::transfer {

inline constexpr uint32_t kMaxBatch = 16;

struct WriteBatch {
  OpContext context;  // first: what the provider gets and gives back
  uint64_t peer = 0;
  uint32_t imm = 0, count = 0;
  std::array<OpContext*, kMaxBatch> members{};

  uint64_t data() const { return uint64_t{count} << 32 | imm; }
  static WriteBatch* Of(void* context) { return static_cast<WriteBatch*>(context); }
  // How many writes the data of an arrival speaks for; a writer without batches sends no count.
  static uint32_t CountOf(uint64_t data) {
    const auto count = static_cast<uint32_t>(data >> 32);
    return count == 0 ? 1 : count <= kMaxBatch ? count : kMaxBatch;
  }
};

class WriteBatches {
 public:
  // `writes`: how many may be in flight, each possibly a batch of its own. `limit`: writes of one
  // batch, at most kMaxBatch.
  void Reserve(uint32_t writes, uint32_t limit) {
    limit_ = limit;
    batches_.resize(writes + 1);
    free_.clear();
    for (WriteBatch& batch : batches_) free_.push_back(&batch);
  }

  // The batch that is being filled; nullptr when there is none.
  WriteBatch* open() { return open_; }
  bool Takes(uint64_t peer, uint32_t imm) const {
    return !open_ || (open_->peer == peer && open_->imm == imm && open_->count < limit_);
  }
  bool HasRoom() const { return open_ || !free_.empty(); }
  void Add(uint64_t peer, uint32_t imm, OpContext* context) {
    if (!open_) {
      open_ = free_.back();
      free_.pop_back();
      open_->peer = peer;
      open_->imm = imm;
      open_->count = 0;
    }
    open_->members[open_->count++] = context;
  }
  // It was posted, or has failed: the next write begins another.
  void Close() { open_ = nullptr; }
  void Return(WriteBatch* batch) { free_.push_back(batch); }

 private:
  std::vector<WriteBatch> batches_;
  std::vector<WriteBatch*> free_;
  WriteBatch* open_ = nullptr;
  uint32_t limit_ = kMaxBatch;
};

}  // namespace baton::transfer
