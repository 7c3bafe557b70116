#include "transfer/rails/joined.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "common/log.h"
#include "transfer/imm.h"

namespace baton::transfer {
namespace {

constexpr uint32_t kExplore = 128;  // one write in so many takes the next path in turn
constexpr double kSuspectCost = 1e3;  // seconds: only when there is no other

uint32_t PlacesOf(const std::vector<std::unique_ptr<Fabric>>& rails) {
  uint32_t places = 0;
  for (const auto& rail : rails) places += rail->traits().max_in_flight;
  return places + 64;
}

}  // namespace

std::string RailsFamily(const std::string& family) { return family + "+rails"; }

std::unique_ptr<Fabric> JoinRails(std::vector<std::unique_ptr<Fabric>> rails, RailTimes times) {
  BATON_CHECK(!rails.empty() && rails.size() <= kMaxRails, "{} rails", rails.size());
  return std::make_unique<JoinedRails>(std::move(rails), times);
}

JoinedRails::JoinedRails(std::vector<std::unique_ptr<Fabric>> rails, RailTimes times)
    : times_(times),
      stats_(std::make_shared<RailsStats>(rails.size())),
      ops_(PlacesOf(rails)),
      rails_(rails.size()) {
  for (size_t r = 0; r < rails.size(); ++r) {
    rails_[r].fabric = std::move(rails[r]);
    const std::vector<std::string>& names = rails_[r].fabric->traits().rails;
    stats_->rails[r].name = names.empty() ? std::to_string(r) : names[0];
  }
  FillTraits();
  pending_.reserve(traits_.max_in_flight);
  OpenWaitFd();
}

JoinedRails::~JoinedRails() {
  if (wait_fd_ >= 0) close(wait_fd_);
}

void JoinedRails::FillTraits() {
  traits_ = rails_[0].fabric->traits();
  traits_.family = RailsFamily(traits_.family);
  traits_.rails.clear();
  traits_.max_in_flight = traits_.max_in_flight_peer = 0;
  uint32_t room = ~0u;  // of the smallest completion queue, beside the rail's own writes
  for (size_t r = 0; r < rails_.size(); ++r) {
    const FabricTraits& rail = rails_[r].fabric->traits();
    traits_.rails.push_back(stats_->rails[r].name);
    traits_.hardware_rdma = traits_.hardware_rdma && rail.hardware_rdma;
    traits_.least_in_flight = std::max(traits_.least_in_flight, rail.least_in_flight);
    if (rail.write_path != traits_.write_path) traits_.write_path = "mixed";
    traits_.max_write_bytes = std::min(traits_.max_write_bytes, rail.max_write_bytes);
    traits_.max_in_flight += rail.max_in_flight;
    traits_.max_in_flight_peer += rail.max_in_flight_peer;
    traits_.max_invitations = std::min(traits_.max_invitations, rail.max_invitations);
    traits_.drain_timeout = std::max(traits_.drain_timeout, rail.drain_timeout);
    if (rail.cq_entries) room = std::min(room, rail.cq_entries - std::min(rail.cq_entries, rail.max_in_flight));
  }
  // A writer may spend all its credits on one rail.
  traits_.cq_entries = room == ~0u ? 0 : room + traits_.max_in_flight;
}

void JoinedRails::OpenWaitFd() {
  for (const Rail& rail : rails_)
    if (rail.fabric->wait_fd() < 0) return;
  wait_fd_ = epoll_create1(EPOLL_CLOEXEC);
  if (wait_fd_ < 0) return;
  for (const Rail& rail : rails_) {
    epoll_event event{.events = EPOLLIN, .data = {}};
    if (epoll_ctl(wait_fd_, EPOLL_CTL_ADD, rail.fabric->wait_fd(), &event) == 0) continue;
    close(wait_fd_);
    wait_fd_ = -1;
    return;
  }
}

// ---- memory and keys ---------------------------------------------------------------------------

Result<uint32_t> JoinedRails::Register(MemorySpan memory) {
  std::vector<uint32_t> indices;
  for (size_t r = 0; r < rails_.size(); ++r) {
    Result<uint32_t> index = rails_[r].fabric->Register(memory);
    if (!index) {
      for (size_t done = 0; done < r; ++done) rails_[done].fabric->Unregister(indices[done]);
      return index.status().Prefixed("rail " + stats_->rails[r].name);
    }
    indices.push_back(*index);
  }
  regions_.push_back(std::move(indices));
  return static_cast<uint32_t>(regions_.size() - 1);
}

void JoinedRails::Unregister(uint32_t region) {
  for (size_t r = 0; r < rails_.size(); ++r) rails_[r].fabric->Unregister(regions_[region][r]);
}

Result<MemoryKey> JoinedRails::Expose(uint32_t region) {
  Exposure exposure{.invitation = next_invitation_, .keys = {}};
  for (size_t r = 0; r < rails_.size(); ++r) {
    Result<MemoryKey> key = rails_[r].fabric->Expose(regions_[region][r]);
    if (!key) {
      for (size_t done = 0; done < r; ++done) rails_[done].fabric->Revoke(exposure.keys[done]);
      return key.status().Prefixed("rail " + stats_->rails[r].name);
    }
    exposure.keys.push_back(*key);
  }
  // The lower half finds it in the peer's table at once.
  const uint64_t id = next_invitation_ << 16 | fresh_.size();
  exposures_[id] = std::move(exposure);
  fresh_.push_back(id);
  return MemoryKey{.base = 0, .key = id};
}

void JoinedRails::Revoke(const MemoryKey& key) {
  const auto exposure = exposures_.find(key.key);
  if (exposure == exposures_.end()) return;
  for (size_t r = 0; r < rails_.size(); ++r) rails_[r].fabric->Revoke(exposure->second.keys[r]);
  const auto invitation = invitations_.find(exposure->second.invitation);
  exposures_.erase(exposure);
  // Taken back before it was sent: its number is the next one's. (One among others leaves a gap that
  // Invite fills.)
  while (!fresh_.empty() && !exposures_.contains(fresh_.back())) fresh_.pop_back();
  if (invitation == invitations_.end() || --invitation->second.keys > 0) return;
  for (size_t r = 0; r < rails_.size(); ++r) rails_[r].fabric->Revoke(invitation->second.pads[r]);
  invitations_.erase(invitation);
}

Result<MemoryKey> JoinedRails::Renew(const MemoryKey& key) {
  const auto exposure = exposures_.find(key.key);
  if (exposure == exposures_.end()) return key;
  for (size_t r = 0; r < rails_.size(); ++r) {
    Result<MemoryKey> next = rails_[r].fabric->Renew(exposure->second.keys[r]);
    if (!next) return next.status().Prefixed("rail " + stats_->rails[r].name);
    exposure->second.keys[r] = *next;
  }
  return key;
}

Status JoinedRails::MakePads() {
  for (Rail& rail : rails_) {
    if (rail.has_pad) continue;
    Result<uint32_t> region = rail.fabric->Register({rail.pad.data(), rail.pad.size()});
    if (!region) return region.status();
    rail.pad_region = *region;
    rail.has_pad = true;
  }
  return Status::Ok();
}

Result<std::string> JoinedRails::Invite() {
  // What was exposed is this invitation's, whatever becomes of it.
  const uint64_t number = next_invitation_++;
  const std::vector<uint64_t> ids = std::exchange(fresh_, {});
  if (Status s = MakePads(); !s.ok()) return s;
  RailsInvitation out{.rails = {}, .ids = ids, .keys = {}};
  Invitation made;
  for (const uint64_t id : ids) {
    const auto exposure = exposures_.find(id);
    const bool taken_back = exposure == exposures_.end();
    made.keys += !taken_back;
    const std::vector<MemoryKey> keys = taken_back ? std::vector<MemoryKey>(rails_.size()) : exposure->second.keys;
    out.keys.insert(out.keys.end(), keys.begin(), keys.end());
  }
  const Status opened = InviteOnRails(out, made.pads);
  if (!opened.ok() || made.keys == 0)
    for (size_t r = 0; r < made.pads.size(); ++r) rails_[r].fabric->Revoke(made.pads[r]);
  if (!opened.ok()) return opened;
  if (made.keys > 0) invitations_[number] = std::move(made);
  return EncodeRails(out);
}

// The rails' addresses, and a pad of each for this invitation.
Status JoinedRails::InviteOnRails(RailsInvitation& out, std::vector<MemoryKey>& pads) {
  for (Rail& rail : rails_) {
    Result<MemoryKey> pad = rail.fabric->Expose(rail.pad_region);
    if (!pad) return pad.status();
    pads.push_back(*pad);
    Result<std::string> address = rail.fabric->Invite();
    if (!address) return address.status();
    out.rails.push_back({*std::move(address), rail.fabric->traits().renews_keys, *pad});
  }
  return Status::Ok();
}

// ---- peers -------------------------------------------------------------------------------------

std::string JoinedRails::NameOf(std::string_view address) const {
  const Result<RailsInvitation> theirs = ParseRails(address);
  std::string names;
  for (size_t r = 0; theirs.ok() && r < theirs->rails.size(); ++r)
    names += (r ? "," : "") + rails_[0].fabric->NameOf(theirs->rails[r].address);
  return names;
}

Result<uint64_t> JoinedRails::Insert(std::string_view address) {
  if (Status s = MakePads(); !s.ok()) return s;
  Result<RailsInvitation> parsed = ParseRails(address);
  if (!parsed) return parsed.status();
  for (size_t i = 0; i < parsed->ids.size(); ++i)
    if ((parsed->ids[i] & 0xFFFF) != i)
      return Error(Code::kDataCorrupt, "the peer's rails name key {:#x} as number {}", parsed->ids[i], i);
  uint64_t handle = 0;
  while (handle < peers_.size() && peers_[handle]) ++handle;
  if (handle == peers_.size()) peers_.emplace_back();
  auto peer = std::make_unique<Peer>();
  peer->invitation = *std::move(parsed);
  const auto remotes = static_cast<uint32_t>(peer->invitation.rails.size());
  peer->paths.resize(rails_.size() * remotes);
  for (uint32_t i = 0; i < peer->paths.size(); ++i) {
    peer->paths[i].peer = static_cast<uint32_t>(handle);
    peer->paths[i].local = i / remotes;
    peer->paths[i].remote = i % remotes;
  }
  peer->candidates.reserve(peer->paths.size());
  peer->why = Error(Code::kUnavailable, "no rail has reached the peer yet");
  peers_[handle] = std::move(peer);
  next_tending_ = {};
  return handle;
}

void JoinedRails::Follow(uint64_t handle, const MemoryKey& key) {
  RailsInvitation& theirs = peers_[handle]->invitation;
  const size_t index = key.key & 0xFFFF;
  if (index >= theirs.ids.size() || theirs.ids[index] != key.key) return;
  for (size_t r = 0; r < theirs.rails.size(); ++r)
    if (theirs.rails[r].renews_keys) {
      MemoryKey& known = theirs.keys[index * theirs.rails.size() + r];
      known = NextKey(known);
    }
}

Ways JoinedRails::TakeDoubts(uint64_t handle) { return std::exchange(peers_[handle]->doubts, Ways{}); }

void JoinedRails::CloseWays(uint64_t handle, const Ways& ways, TimePoint now) {
  Peer& peer = *peers_[handle];
  for (Path& path : peer.paths) {
    // The peer's rail is the remote one here.
    if (!ways.Has(path.remote, path.local) || Drains(path)) continue;
    const bool used = path.state == Path::State::kOpen || path.state == Path::State::kTrying;
    if (used)
      ClosePath(peer, path, Error(Code::kUnavailable, "the peer found that it does not work"), now);
    else
      Sever(peer, path);
  }
}

void JoinedRails::Remove(uint64_t handle) {
  Peer& peer = *peers_[handle];
  for (Path& path : peer.paths) {
    GiveUpOps(peer, path, Error(Code::kUnavailable, "the peer was removed"));
    Sever(peer, path);
    SetState(path, Path::State::kUntried);
  }
  peers_[handle].reset();
}

// ---- writes ------------------------------------------------------------------------------------

bool JoinedRails::HasRoom(const Path& path) const {
  const FabricTraits& rail = rails_[path.local].fabric->traits();
  return rails_[path.local].in_flight < rail.max_in_flight && path.in_flight < rail.max_in_flight_peer;
}

// The path on which the write will be done first; now and then another one, to see how it does.
Path* JoinedRails::Pick(Peer& peer, uint64_t bytes, TimePoint now) {
  const auto count = static_cast<uint32_t>(peer.candidates.size());
  if (++peer.turn % kExplore == 0) {
    Path* const path = peer.candidates[peer.turn / kExplore % count];
    if (HasRoom(*path) && !IsSuspect(*path, now)) return path;
  }
  Path* best = nullptr;
  double best_cost = 0;
  for (Path* const path : peer.candidates) {
    if (!HasRoom(*path)) continue;
    const double cost = static_cast<double>(path->bytes_in_flight + bytes) / path->Rate() +
                        (IsSuspect(*path, now) ? kSuspectCost : 0);
    if (best && cost >= best_cost) continue;
    best = path;
    best_cost = cost;
  }
  return best;
}

PostResult JoinedRails::Write(const WriteRequest& request, TimePoint now, Status& why) {
  Peer& peer = *peers_[request.peer];
  const RailsInvitation& theirs = peer.invitation;
  const size_t index = request.remote_key & 0xFFFF;
  if (index >= theirs.ids.size() || theirs.ids[index] != request.remote_key) {
    why = Error(Code::kInternal, "the peer gave no key {:#x}", request.remote_key);
    return PostResult::kFailed;
  }
  // Each round posts, gives up, or closes one path for good.
  while (!peer.candidates.empty()) {
    Path* const best = Pick(peer, request.bytes, now);
    if (!best) return PostResult::kAgain;
    PostResult result = PostOn(*best, request, now, why);
    if (result == PostResult::kPosted) return result;
    if (result == PostResult::kAgain) {
      for (Path* const other : peer.candidates) {
        if (other == best || !HasRoom(*other) || IsSuspect(*other, now)) continue;
        if (PostOn(*other, request, now, why) == PostResult::kPosted) return PostResult::kPosted;
      }
      return PostResult::kAgain;
    }
    ClosePath(peer, *best, why, now);
  }
  if (MayBeLeft(peer)) return PostResult::kAgain;
  Report(request.context, false, peer.why);
  return PostResult::kPosted;
}

PostResult JoinedRails::PostOn(Path& path, const WriteRequest& request, TimePoint now, Status& why) {
  const RailsInvitation& theirs = peers_[path.peer]->invitation;
  const MemoryKey& key =
      theirs.keys[(request.remote_key & 0xFFFF) * theirs.rails.size() + path.remote];
  RailOp* op = TakeOp(path, request.context, request.bytes, now);
  WriteRequest on_rail = request;
  on_rail.peer = path.handle;
  on_rail.local_region = regions_[request.local_region][path.local];
  on_rail.remote_address = key.base + request.remote_address;
  on_rail.remote_key = key.key;
  on_rail.context = &op->context;
  const PostResult result = rails_[path.local].fabric->Write(on_rail, now, why);
  if (result != PostResult::kPosted) {
    TakeOff(op);
    ops_.Put(op);
    return result;
  }
  RailStats& stats = stats_->rails[path.local];
  Stats::Bump(stats.bytes, request.bytes);
  Stats::Bump(stats.writes);
  return result;
}

RailOp* JoinedRails::TakeOp(Path& path, OpContext* owner, uint64_t bytes, TimePoint now) {
  RailOp* op = ops_.Take();
  op->owner = owner;
  op->path = &path;
  op->bytes = bytes;
  op->posted_at = now;
  Link(path.ops, op);
  if (path.in_flight++ == 0 && !path.probe) path.heard_at = now;
  path.bytes_in_flight += bytes;
  op->ahead = path.bytes_in_flight;
  ++rails_[path.local].in_flight;
  Peer& peer = *peers_[path.peer];
  ++peer.in_flight;
  peer.busy = true;
  return op;
}

void JoinedRails::TakeOff(RailOp* op) {
  Path& path = *op->path;
  Unlink(path.ops, op);
  --path.in_flight;
  path.bytes_in_flight -= op->bytes;
  --rails_[path.local].in_flight;
  --peers_[path.peer]->in_flight;
}

void JoinedRails::Report(OpContext* owner, bool in_doubt, const Status& why) {
  Completion& failed = pending_.emplace_back();
  failed.kind = Completion::Kind::kFailed;
  failed.peer_lost = !in_doubt;
  failed.in_doubt = in_doubt;
  failed.context = owner;
  failed.status = why;
}

// ---- completions -------------------------------------------------------------------------------

void JoinedRails::Flush(TimePoint now) {
  for (Rail& rail : rails_) rail.fabric->Flush(now);
}

size_t JoinedRails::Poll(TimePoint now, std::span<Completion> out) {
  size_t count = 0;
  for (uint32_t i = 0; i < rails_.size(); ++i) {
    const uint32_t rail = (first_rail_ + i) % static_cast<uint32_t>(rails_.size());
    // Until it has nothing more: whoever gets fewer than it asked for knows that all queues are empty.
    while (count < out.size()) {
      const std::span<Completion> room = out.subspan(count);
      const size_t got = rails_[rail].fabric->Poll(now, room);
      for (size_t k = 0; k < got; ++k) {
        if (!TakeCompletion(rail, room[k], now)) continue;
        if (&out[count] != &room[k]) out[count] = std::move(room[k]);
        ++count;
      }
      if (got < room.size()) break;
    }
  }
  first_rail_ = (first_rail_ + 1) % static_cast<uint32_t>(rails_.size());
  if (now >= next_tending_) Tend(now);
  while (count < out.size() && pending_read_ < pending_.size())
    out[count++] = std::move(pending_[pending_read_++]);
  if (pending_read_ == pending_.size()) {
    pending_.clear();
    pending_read_ = 0;
  }
  return count;
}

// What the rail reports, as the engine shall see it; false when it shall not.
bool JoinedRails::TakeCompletion(uint32_t rail, Completion& completion, TimePoint now) {
  if (completion.kind == Completion::Kind::kArrived)
    return UnpackImm(completion.imm).kind != ImmKind::kProbe;
  if (completion.kind == Completion::Kind::kPeerGone) return OnRailPeerGone(rail, completion, now);
  if (!completion.context) return false;
  RailOp* op = reinterpret_cast<RailOp*>(completion.context);
  Path* const path = op->path;
  if (!path) {
    ops_.Put(op);
    return false;
  }
  Peer& peer = *peers_[path->peer];
  if (op == path->probe) {
    path->probe = nullptr;
    ops_.Put(op);
    OnProbeDone(peer, *path, completion, now);
    return false;
  }
  OpContext* const owner = op->owner;
  const Duration took = now - op->posted_at;
  const uint64_t ahead = op->ahead;
  TakeOff(op);
  ops_.Put(op);
  if (completion.kind == Completion::Kind::kDone) {
    path->heard_at = now;
    path->NoteTime(ahead, took);
    if (path->measured())
      Stats::Set(stats_->rails[rail].bytes_per_second, static_cast<uint64_t>(path->Rate()));
  } else {
    peer.doubts.Add(path->local, path->remote);
    ClosePath(peer, *path, completion.status, now);
    completion.in_doubt = MayBeLeft(peer);
    completion.peer_lost = !completion.in_doubt;
  }
  completion.context = owner;
  return true;
}

bool JoinedRails::OnRailPeerGone(uint32_t rail, const Completion& completion, TimePoint now) {
  for (auto& peer : peers_) {
    if (!peer) continue;
    for (Path& path : peer->paths)
      if (path.local == rail && path.inserted && path.handle == completion.peer)
        ClosePath(*peer, path, completion.status, now);
  }
  return false;
}

bool JoinedRails::PrepareSleep() {
  bool idle = pending_read_ == pending_.size();
  for (Rail& rail : rails_) idle = rail.fabric->PrepareSleep() && idle;
  return idle;
}

}  // namespace baton::transfer
