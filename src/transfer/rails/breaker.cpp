// Which paths of a peer may be used: probes open them, failures and silence close them, probes open
// them again.
#include <algorithm>

#include "common/log.h"
#include "transfer/imm.h"
#include "transfer/rails/joined.h"

namespace baton::transfer {
namespace {

constexpr Duration kTendInterval = 1ms;
constexpr uint64_t kProbeBytes = 8;
constexpr uint32_t kFirstTries = 3;  // the first may meet a connection of an earlier join, which the peer has closed
constexpr int kSlowness = 4;  // a path may take so many times as long as predicted

}  // namespace

// Paths in use when all rails work: every rail of both sides is in one, the larger side's in exactly
// one. The others stand in for one of these that does not work.
bool JoinedRails::IsHome(const Peer& peer, const Path& path) const {
  const size_t locals = rails_.size(), remotes = peer.invitation.rails.size();
  return locals >= remotes ? path.local % remotes == path.remote : path.remote % locals == path.local;
}

Path& JoinedRails::HomeOf(Peer& peer, const Path& path) const {
  const size_t locals = rails_.size(), remotes = peer.invitation.rails.size();
  return locals >= remotes ? peer.paths[path.local * remotes + path.local % remotes]
                           : peer.paths[path.remote % locals * remotes + path.remote];
}

bool JoinedRails::IsWanted(Peer& peer, const Path& path) const {
  return IsHome(peer, path) || HomeOf(peer, path).state == Path::State::kClosed;
}

// True while a path works, or one that is wanted has not failed yet (at first: not often enough; later:
// since the last one was lost).
bool JoinedRails::MayBeLeft(Peer& peer) const {
  if (!peer.candidates.empty()) return true;
  return std::any_of(peer.paths.begin(), peer.paths.end(), [&](const Path& path) {
    return path.state == Path::State::kOpen || path.not_yet || path.owed ||
           (!peer.reached && path.failed_tries < kFirstTries && IsWanted(peer, path)) ||
           (path.retry_at == TimePoint{} && path.state != Path::State::kClosed && IsWanted(peer, path));
  });
}

// A path for every rail of the larger side: its own where that is open, else one that stands in.
void JoinedRails::Choose(Peer& peer) {
  peer.candidates.clear();
  for (Path& path : peer.paths)
    if (IsHome(peer, path) && path.state == Path::State::kOpen) peer.candidates.push_back(&path);
  for (Path& home : peer.paths) {
    if (!IsHome(peer, home) || home.state == Path::State::kOpen) continue;
    for (Path& path : peer.paths) {
      if (path.state != Path::State::kOpen || &HomeOf(peer, path) != &home) continue;
      peer.candidates.push_back(&path);
      break;
    }
  }
  // One that no longer stands in for another may break unseen: it is tried again before the next time.
  for (Path& path : peer.paths)
    if (path.state != Path::State::kUntried && !IsHome(peer, path) && path.in_flight == 0 && !path.probe &&
        HomeOf(peer, path).state == Path::State::kOpen) {
      SetState(path, Path::State::kUntried);
      path.retry_at = {};
    }
}

void JoinedRails::SetState(Path& path, Path::State state) {
  RailStats& stats = stats_->rails[path.local];
  if (path.state == Path::State::kOpen) Stats::Sub(stats.paths_open);
  if (path.state == Path::State::kClosed) Stats::Sub(stats.paths_closed);
  path.state = state;
  if (path.state == Path::State::kOpen) Stats::Add(stats.paths_open);
  if (path.state == Path::State::kClosed) Stats::Add(stats.paths_closed);
}

// True where the rail reports every write of a lost peer, so that its end is to be waited for.
bool JoinedRails::Drains(const Path& path) const {
  return rails_[path.local].fabric->traits().drain_timeout.count() > 0;
}

void JoinedRails::Tend(TimePoint now) {
  next_tending_ = now + kTendInterval;
  for (auto& peer : peers_) {
    if (!peer || !peer->busy) continue;
    peer->busy = peer->in_flight > 0;
    for (Path& path : peer->paths) TendPath(*peer, path, now);
  }
}

void JoinedRails::TendPath(Peer& peer, Path& path, TimePoint now) {
  switch (path.state) {
    case Path::State::kUntried:
    case Path::State::kClosed:
      if (!IsWanted(peer, path)) return;
      peer.busy = true;
      // Where writes drain, the next try waits for the end of those before.
      if (now >= path.retry_at && path.in_flight == 0 && !path.probe) Try(peer, path, now);
      return;
    case Path::State::kTrying:
      peer.busy = true;
      if (now - path.tried_at > times_.probe_timeout)
        return ClosePath(peer, path, Error(Code::kUnavailable, "the rail does not answer"), now);
      if (!path.probe) PostProbe(peer, path, now);
      return;
    case Path::State::kOpen:
      if (path.in_flight || path.probe) CheckSilence(peer, path, now);
      return;
  }
}

// Silent for so long that other paths are preferred.
bool JoinedRails::IsSuspect(const Path& path, TimePoint now) const {
  return path.in_flight && now - path.heard_at > times_.silence / 4;
}

// A path is closed for its silence only when another one of the peer has spoken meanwhile: else it is
// the peer that is silent, which the engine judges.
void JoinedRails::CheckSilence(Peer& peer, Path& path, TimePoint now) {
  if (now - path.heard_at <= times_.silence / 4) return;
  bool others_speak = false;
  for (Path& other : peer.paths) {
    if (&other == &path || other.state != Path::State::kOpen) continue;
    others_speak = others_speak || other.heard_at > path.heard_at + times_.silence / 2;
    if (!other.probe && other.in_flight == 0) PostProbe(peer, other, now);  // has it?
  }
  const Duration patience =
      std::max<Duration>(times_.silence, path.measured() ? path.PredictFor(0) * kSlowness : Duration(0));
  if (others_speak && now - path.heard_at > patience)
    ClosePath(peer, path,
              Error(Code::kUnavailable, "the rail was silent for {:.0f} ms", Seconds(now - path.heard_at) * 1e3),
              now);
}

// Makes the other rail known to the local one.
bool JoinedRails::Reach(Peer& peer, Path& path) {
  if (path.inserted) return true;
  Result<uint64_t> handle =
      rails_[path.local].fabric->Insert(peer.invitation.rails[path.remote].address);
  if (!handle) {
    peer.why = handle.status();
    return false;
  }
  path.handle = *handle;
  path.inserted = true;
  return true;
}

// Ends the connection between the two rails, whichever side made it, and with it what waits in it or
// is half received. The next try makes a new one.
void JoinedRails::Sever(Peer& peer, Path& path) {
  if (!Reach(peer, path)) return;
  rails_[path.local].fabric->Remove(path.handle);
  path.inserted = false;
}

void JoinedRails::Try(Peer& peer, Path& path, TimePoint now) {
  SetState(path, Path::State::kTrying);
  if (!Reach(peer, path)) return ClosePath(peer, path, peer.why, now);
  path.tried_at = now;
  PostProbe(peer, path, now);
}

void JoinedRails::PostProbe(Peer& peer, Path& path, TimePoint now) {
  Rail& rail = rails_[path.local];
  const MemoryKey& pad = peer.invitation.rails[path.remote].pad;
  RailOp* op = ops_.Take();
  op->path = &path;
  op->posted_at = now;
  const WriteRequest request{.peer = path.handle,
                             .local_region = rail.pad_region,
                             .bytes = kProbeBytes,
                             .remote_address = pad.base + kProbeBytes,
                             .remote_key = pad.key,
                             .imm = PackImm({.kind = ImmKind::kProbe}),
                             .context = &op->context};
  Status why;
  const PostResult result = rail.fabric->Write(request, now, why);
  if (result == PostResult::kPosted) {
    path.probe = op;
    if (path.in_flight == 0) path.heard_at = now;
    peer.busy = true;
    return;
  }
  ops_.Put(op);
  if (result == PostResult::kFailed) ClosePath(peer, path, why, now);
}

void JoinedRails::OnProbeDone(Peer& peer, Path& path, const Completion& completion, TimePoint now) {
  if (completion.kind == Completion::Kind::kFailed) {
    ClosePath(peer, path, completion.status, now);
    path.not_yet = !completion.peer_lost;
    return;
  }
  path.heard_at = now;
  if (path.state != Path::State::kTrying) return;
  if (path.backoff > Duration(0))
    log::info("transfer: rail {} reaches rail {} of its peer again", stats_->rails[path.local].name, path.remote);
  path.opened_at = now;
  peer.reached = true;
  path.retry_at = {};
  SetState(path, Path::State::kOpen);
  Choose(peer);
}

// No path is open any more. Those that were closed may work again by now, and we would learn it only up to
// last_retry later: each gets its try before the peer counts as lost.
void JoinedRails::OweTries(Peer& peer, const Path& lost, TimePoint now) {
  for (Path& path : peer.paths) {
    path.owed = path.opened_at != TimePoint{};
    if (path.owed && &path != &lost) path.retry_at = std::min(path.retry_at, now);
  }
  next_tending_ = {};
}

// Everything on it ends here, in doubt; where its rail reports all ends by itself, these come first.
void JoinedRails::ClosePath(Peer& peer, Path& path, const Status& why, TimePoint now) {
  const bool was_open = path.state == Path::State::kOpen;
  path.not_yet = false;
  if (path.state == Path::State::kTrying) path.owed = false;
  const bool stood = was_open && now - path.opened_at > times_.last_retry;
  path.backoff = stood || path.backoff == Duration(0)
                     ? times_.first_retry
                     : std::min<Duration>(path.backoff * 2, times_.last_retry);
  path.retry_at = now + path.backoff;
  peer.why = why;
  peer.busy = true;
  if (!peer.reached) ++path.failed_tries;
  if (path.state != Path::State::kClosed) Stats::Bump(stats_->rails[path.local].failures);
  SetState(path, Path::State::kClosed);
  Choose(peer);
  if (was_open && peer.candidates.empty()) OweTries(peer, path, now);
  if (was_open)
    log::warn("transfer: rail {} no longer reaches rail {} of its peer: {}", stats_->rails[path.local].name,
              path.remote, why.message());
  if (Drains(path)) return;
  GiveUpOps(peer, path, why);
  Sever(peer, path);
}

void JoinedRails::GiveUpOps(Peer& peer, Path& path, const Status& why) {
  const bool in_doubt = MayBeLeft(peer);
  if (path.ops) peer.doubts.Add(path.local, path.remote);
  while (RailOp* op = path.ops) {
    OpContext* const owner = op->owner;
    TakeOff(op);
    op->path = nullptr;
    op->owner = nullptr;
    Report(owner, in_doubt, why);
  }
  if (path.probe) path.probe->path = nullptr;
  path.probe = nullptr;
}

}  // namespace baton::transfer
