// Attention of a step on a thread team: cuts the slices into items, gives each thread scratch, and
// merges the parts of long contexts. The arithmetic is in attention_body.h.
//
// An item is a block of tokens of one slice and one KV head. When there are too few items for the
// team (decode of long contexts) each is cut further by chunks of kAttentionChunk positions. That
// changes who computes a chunk, not one operation on any row.
#pragma once

#include <memory>
#include <vector>

#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/thread_team.h"
#include "kernels/ops.h"

namespace baton::kernels::cpu {

class AttentionRunner {
 public:
  AttentionRunner(const KernelTable& kernels, ThreadTeam& team);

  void Run(const AttentionArgs& args);  // shapes are checked; keeps its memory for the next call

 private:
  struct Item {
    int slice;
    int kv_head;
    int token_begin;
    int tokens;
    int chunk_begin;
    int chunk_end;
    int partial;  // first of its chunks' states in partials_, -1: not cut
  };
  // What one thread works in.
  struct Scratch {
    std::vector<float> memory;
    AttentionScratch arrays{};
    AttentionState total{};
    AttentionState chunk{};
  };

  AttentionJob MakeJob(const AttentionArgs& args, const SequenceSlice& slice) const;
  void PlanItems(const AttentionArgs& args);
  void CutItems();
  void PrepareScratch(const AttentionArgs& args);
  AttentionState PartialState(int index);
  void RunItem(const AttentionArgs& args, const Item& item, Scratch& scratch);
  void RunPart(const AttentionArgs& args, const Item& part, Scratch& scratch);
  void MergeParts(const AttentionArgs& args, const Item& item);

  const KernelTable& kernels_;
  ThreadTeam& team_;
  int group_ = 0;
  int padded_ = 0;      // head dimension of the last call, rounded up
  int block_rows_ = 0;  // most query rows of an item
  std::vector<Item> items_;
  std::vector<Item> parts_;  // one chunk each; empty: items are not cut
  std::vector<Scratch> scratch_;
  std::vector<float> partials_;
};

}  // namespace baton::kernels::cpu
