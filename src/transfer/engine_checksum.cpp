// EngineCore's checksums, both ends (checksums.h): the sender lists what it writes, the receiver
// reads back what it was told and compares.
#include <bit>
#include <optional>

#include "transfer/engine_core.h"
#include "transfer/imm.h"

namespace baton::transfer {

// Sending.

Status EngineCore::PrepareChecksums() {
  if (!block_outboxes_.empty()) return Status::Ok();
  for (const MemorySpan& memory : memories_)
    if (memory.device != DeviceKind::kHost)
      return Error(Code::kUnsupported,
                   "the peer runs with --kv-checksum, which needs the KV in host memory");
  std::vector<BlockOutbox> blocks(config_.max_peers);
  Result<uint32_t> region = fabric_->Register(
      {reinterpret_cast<std::byte*>(blocks.data()), blocks.size() * sizeof(BlockOutbox)});
  if (!region) return region.status();
  block_region_ = *region;
  block_outboxes_ = std::move(blocks);
  return Status::Ok();
}

// True when the next write can be listed. The peer may have read a block and told so while a second
// write of it is under way: its place must wait for that, which would land on its successor.
bool EngineCore::HasBlock(const Peer& peer) const {
  if (!peer.blob.wants_checksums || peer.filling) return true;
  const bool busy = (peer.blocks_due | peer.blocks_in_flight) >> peer.blocks_begun % kManifestBlocks & 1;
  return peer.blocks_begun < peer.blocks_free && !busy;
}

void EngineCore::NoteWrite(Peer& peer, const SendTable::Entry& entry, const WriteRequest& request,
                           uint64_t remote_offset) {
  if (peer.filling == 0) ++peer.blocks_begun;
  const uint64_t sequence = peer.blocks_begun - 1;
  ManifestBlock& block = block_outboxes_[peer.outbox].blocks[sequence % kManifestBlocks];
  const std::byte* data = memories_[request.local_region].data + request.local_offset;
  block.entries[peer.filling++] = {.offset = remote_offset,
                                   .bytes = static_cast<uint32_t>(request.bytes),
                                   .crc = Crc32c(data, request.bytes),
                                   .slot = entry.repetition << 28 | entry.route.slot.index << 8 |
                                           entry.route.slot.generation,
                                   .region = entry.route.remote_region_id};
  block.sequence = sequence;
  if (peer.filling == ManifestBlock::kEntries) CloseBlock(peer);
}

void EngineCore::CloseBlock(Peer& peer) {
  const uint64_t sequence = peer.blocks_begun - 1;
  ManifestBlock& block = block_outboxes_[peer.outbox].blocks[sequence % kManifestBlocks];
  block.epoch = config_.epoch;
  block.count = peer.filling;
  for (uint32_t i = block.count; i < ManifestBlock::kEntries; ++i) block.entries[i] = {};
  block.crc = BlockCrc(block);
  peer.filling = 0;
  peer.blocks_due |= 1u << (sequence % kManifestBlocks);
}

void EngineCore::PostBlocks(Peer& peer, TimePoint now) {
  while (peer.blocks_due && MayPost(peer, true)) {
    if (peer.OutOfCredit()) return Stall(peer, now);
    const auto index = static_cast<uint32_t>(std::countr_zero(peer.blocks_due));
    // Its sequence: the last one begun in that place.
    const uint64_t last = peer.blocks_begun - 1;
    const uint64_t sequence = last - (last - index) % kManifestBlocks;
    WriteOp* op = TakeOp(peer, WriteOp::kBlock, static_cast<uint32_t>(sequence), now);
    const uint64_t place = uint64_t{peer.blob.key_set} * kManifestBlocks + index;
    const WriteRequest request{
        .peer = peer.address,
        .local_region = block_region_,
        .local_offset = uint64_t{peer.outbox} * sizeof(BlockOutbox) + index * kManifestBlockBytes,
        .bytes = kManifestBlockBytes,
        .remote_address = peer.blob.manifest.base + place * kManifestBlockBytes,
        .remote_key = peer.blob.manifest.key,
        .imm = PackImm({.slot = PackBlockName(peer.blob.key_set, sequence),
                        .generation = peer.blob.key_set_generation,
                        .kind = ImmKind::kManifest}),
        .context = &op->context};
    Status why;
    const PostResult result = fabric_->Write(request, now, why);
    if (result == PostResult::kPosted) {
      ++peer.posted;
      peer.blocked = peer.stalled = false;
      peer.blocks_due &= ~(1u << index);
      peer.blocks_in_flight |= 1u << index;
      continue;
    }
    ReturnOp(op);
    if (result == PostResult::kFailed) return LosePeer(peer, why, now);
    peer.blocked = peer.in_flight == 0;
    return;
  }
}

// A block that did not land is written again: same bytes, same place. Unless it did land after all
// and the peer said that it read it: then the place is another's.
void EngineCore::OnBlockSent(Peer& peer, uint32_t sequence, bool failed) {
  peer.blocks_in_flight &= ~(1u << sequence % kManifestBlocks);
  const auto read = static_cast<uint32_t>(peer.blocks_free - kManifestBlocks);  // those before it
  if (failed && static_cast<int32_t>(sequence - read) >= 0)
    peer.blocks_due |= 1u << sequence % kManifestBlocks;
}

// Receiving.

void EngineCore::OnBlock(Imm imm, TimePoint now) {
  const auto [set, low] = UnpackBlockName(imm.slot);
  const std::byte* bytes = key_sets_.ManifestBlock(set, imm.generation, low % kManifestBlocks);
  if (!bytes) return Stats::Add(stats_->stray_writes);
  credits_.Consume(set);
  const std::optional<uint64_t> sequence = key_sets_.CountBlock(set, low);
  for (auto& peer : peers_) {
    if (peer->inbound != set) continue;
    peer->answer_due = true;  // the block may be overwritten
    peer->heard_at = now;
  }
  if (!sequence) return;  // it was read before, and its place may hold another
  ManifestBlock block;
  std::memcpy(&block, bytes, sizeof block);
  const bool sound = block.count <= ManifestBlock::kEntries && block.crc == BlockCrc(block);
  if (!sound || block.sequence != *sequence) {
    Stats::Add(stats_->checksum_errors);  // its slots never complete: better than believing it
    return;
  }
  for (uint32_t i = 0; i < block.count; ++i) TakeEntry(block.entries[i], block.epoch);
}

void EngineCore::TakeEntry(const ManifestEntry& entry, uint64_t epoch) {
  const uint32_t index = entry.slot >> 8 & (kImmSlots - 1);
  if (index >= slots_.size()) return;
  const SlotTable::Entry& slot = slots_[index];
  const bool open = slot.state == SlotTable::State::kOpen &&
                    slot.generation == static_cast<uint8_t>(entry.slot) &&
                    slot.repetition == entry.slot >> 28 && slot.owner &&
                    slot.owner->blob.epoch == epoch;
  if (!open) return;
  entries_[index].push_back(entry);
  CheckSlot(index);
}

Status EngineCore::Verify(uint32_t slot) const {
  const std::vector<KeySets::Region> regions = directory_.Regions();
  for (const ManifestEntry& entry : entries_[slot]) {
    if (entry.region >= regions.size() || entry.bytes > regions[entry.region].size_bytes ||
        entry.offset > regions[entry.region].size_bytes - entry.bytes)
      return Error(Code::kDataCorrupt, "the peer lists a write of {} bytes at {} of region {}",
                   entry.bytes, entry.offset, entry.region);
    const std::byte* data = memories_[regions[entry.region].fabric_region].data + entry.offset;
    Stats::Add(stats_->checksums_checked);
    if (const uint32_t found = Crc32c(data, entry.bytes); found != entry.crc) {
      Stats::Add(stats_->checksum_errors);
      return Error(Code::kDataCorrupt,
                   "{} bytes at {} of region {} have CRC-32C {:#010x}, sent was {:#010x}",
                   entry.bytes, entry.offset, entry.region, found, entry.crc);
    }
  }
  return Status::Ok();
}

}  // namespace baton::transfer
