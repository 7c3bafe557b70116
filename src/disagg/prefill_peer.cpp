#include "disagg/prefill_peer.h"

#include <algorithm>
#include <random>

#include <boost/asio/bind_executor.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "common/bytes.h"
#include "common/log.h"
#include "disagg/heartbeat.h"

namespace baton::disagg {

namespace {

constexpr Duration kComeBackPause = std::chrono::milliseconds(500);
constexpr Duration kRegisterTime = std::chrono::seconds(8);
constexpr Duration kRetryPause = std::chrono::milliseconds(50);
constexpr size_t kMaxReason = 4096;  // bytes of a refusal

// Prefill did not answer. What this machine lacks to ask says nothing about prefill.
bool IsSilence(const Status& status) { return !status.ok() && status.code() != Code::kResourceExhausted; }

}  // namespace

PrefillPeer::PrefillPeer(PeerContext context, http::Origin origin, std::function<void(Status)> on_lost)
    : context_(std::move(context)), origin_(std::move(origin)), on_lost_(std::move(on_lost)),
      beat_(context_.strand) {}

void PrefillPeer::WhenReady(Ready ready) {
  if (state_ == State::kReady) return ready(Status::Ok(), shared_from_this());
  if (const auto leader = leader_.lock(); leader && leader->ready()) return ready(Status::Ok(), leader);
  waiting_.push_back(std::move(ready));
  if (state_ == State::kRegistering) return;
  state_ = State::kRegistering;
  asio::co_spawn(context_.strand, [self = shared_from_this()] { return self->Register(); }, asio::detached);
}

asio::awaitable<void> PrefillPeer::Register() {
  const TimePoint deadline = Now() + kRegisterTime;
  asio::steady_timer pause(context_.strand);
  Status status;
  while (true) {
    const auto instance = co_await AskInstance();
    status = instance.status();
    if (!status.ok()) break;
    if (const auto leader = OtherPeerOf(*instance)) co_return Follow(leader);
    instance_ = *instance;
    (*context_.paired)[instance_] = weak_from_this();
    status = co_await TryRegister(deadline);
    if (status.ok()) break;
    context_.paired->erase(instance_);
    if (status.code() != Code::kUnavailable || mute_ || stopped_ || Now() + kRetryPause >= deadline) break;
    pause.expires_after(kRetryPause);  // then with new descriptions (Link::Connect)
    co_await pause.async_wait(asio::use_awaitable);
  }
  state_ = status.ok() ? State::kReady : State::kIdle;
  if (status.ok()) {
    log::info("Paired with {} at {} over {}", name_, origin_.ToString(), context_.link->fabric->report().provider);
    asio::co_spawn(context_.strand, [self = shared_from_this()] { return self->Heartbeat(self->pairing_); },
                   asio::detached);
    asio::co_spawn(context_.strand, [self = shared_from_this()] { return self->Watch(self->line_); }, asio::detached);
  } else {
    log::warn("Cannot pair with prefill at {}: {}", origin_.ToString(), status.ToString());
    status = Error(Code::kUnavailable, "{}", status.message());  // whatever it is, no client made that mistake
  }
  for (Ready& ready : std::exchange(waiting_, {})) ready(status, shared_from_this());
}

std::shared_ptr<PrefillPeer> PrefillPeer::OtherPeerOf(uint64_t instance) const {
  const auto it = context_.paired->find(instance);
  const auto peer = it == context_.paired->end() ? nullptr : it->second.lock();
  return peer && peer.get() != this && peer->state_ != State::kIdle ? peer : nullptr;
}

void PrefillPeer::Follow(const std::shared_ptr<PrefillPeer>& leader) {
  leader_ = leader;
  state_ = State::kIdle;
  followers_.clear();  // who follows leads nobody, so they cannot hold each other in a circle
  if (std::find(leader->followers_.begin(), leader->followers_.end(), shared_from_this()) == leader->followers_.end()) {
    leader->followers_.push_back(shared_from_this());
  }
  log::info("{} is {} at {}", origin_.ToString(), leader->name_, leader->origin_.ToString());
  for (Ready& ready : std::exchange(waiting_, {})) leader->WhenReady(std::move(ready));
}

asio::awaitable<Result<uint64_t>> PrefillPeer::AskInstance() {
  ByteWriter body;
  body.Put(context_.link->self.instance);
  const auto reply = co_await Post("/baton/v1/heartbeat", std::move(body).bytes(), 5s);
  mute_ = IsSilence(reply.status());
  if (!reply.ok()) co_return reply.status().Prefixed("asking prefill who it is");
  ByteReader reader(reply->body);
  const auto instance = reader.Get<uint64_t>();
  mute_ = (reply->status != 200 && reply->status != 409) || reader.failed();
  if (mute_) {
    co_return Error(Code::kUnavailable, "{} is not the bootstrap port of a Baton prefill server (HTTP {})",
                    origin_.ToString(), reply->status);
  }
  co_return instance;
}

asio::awaitable<Status> PrefillPeer::TryRegister(TimePoint deadline) {
  Link& link = *context_.link;
  static thread_local std::mt19937_64 random{std::random_device{}()};
  PeerInfo me = link.Introduce();
  me.pairing = pairing_ = random();
  auto line = co_await context_.client->Start(origin_, MakePost("/baton/v1/register", Encode(me)), deadline);
  mute_ = IsSilence(line.status());
  if (!line.ok()) co_return line.status().Prefixed("registering with prefill");
  if ((*line)->status() != 200) {
    // Neither side is broken: they do not fit, or cannot reach one another.
    const auto why = co_await (*line)->ReadAll(deadline, kMaxReason);
    const int http = (*line)->status();
    co_return Error(http == 503 ? Code::kUnavailable : Code::kInvalidArgument, "prefill at {} refused to pair (HTTP {}): {}",
                    origin_.ToString(), http, why.ok() ? *why : why.status().message());
  }
  const auto info = co_await ReadHello(**line, deadline);
  if (!info.ok()) co_return info.status().Prefixed("registering with prefill");
  if (Status s = CheckCompatible(link.self, *info); !s.ok()) co_return s;
  const auto id = co_await link.Connect(*info);
  if (!id.ok()) co_return id.status().Prefixed("connecting the fabric to prefill");
  if (info->instance != instance_) {  // restarted in between
    link.fabric->Disconnect(*id);
    co_return Error(Code::kUnavailable, "{} was restarted", info->name);
  }
  id_ = *id;
  line_ = *std::move(line);
  name_ = info->name;
  shares_clock_ = info->clock != 0 && info->clock == link.self.clock;
  co_return Status::Ok();
}

asio::awaitable<Result<PeerInfo>> PrefillPeer::ReadHello(http::ClientStream& line, TimePoint deadline) {
  std::string bytes;
  while (true) {
    auto hello = DecodeHello(bytes);
    if (!hello.ok()) co_return hello.status();
    if (*hello) co_return **std::move(hello);
    const auto piece = co_await line.Read(deadline);
    if (!piece.ok()) co_return piece.status();
    if (piece->empty()) co_return Error(Code::kUnavailable, "{} closed the registration", origin_.ToString());
    bytes += *piece;
  }
}

// Prefill holds the registration open while it knows us.
asio::awaitable<void> PrefillPeer::Watch(std::shared_ptr<http::ClientStream> line) {
  while (true) {
    const auto piece = co_await line->Read(Now() + kLineSilence);
    if (piece.ok() && !piece->empty()) continue;
    if (line == line_ && !stopped_) {
      Lost(Error(Code::kUnavailable, "lost connection with {} at {}: {}", name_, origin_.ToString(),
                 piece.ok() ? "it ended the registration" : piece.status().message()));
    }
    co_return;
  }
}

asio::awaitable<void> PrefillPeer::Heartbeat(uint64_t pairing) {
  const LinkOptions& options = context_.link->options;
  ByteWriter body;
  body.Put(context_.link->self.instance);
  int misses = 0;
  while (!stopped_) {
    beat_.expires_after(options.heartbeat_interval);
    boost::system::error_code ignored;
    co_await beat_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    if (stopped_ || state_ != State::kReady || pairing_ != pairing) co_return;
    const auto reply = co_await Post("/baton/v1/heartbeat", body.bytes(), options.heartbeat_interval);
    if (stopped_ || state_ != State::kReady || pairing_ != pairing) co_return;
    const Beat beat = JudgeBeat(reply, instance_);
    if (beat == Beat::kNotAsked) {
      log::warn("No heartbeat to {}: {}", name_, reply.status().message());
      continue;
    }
    if (beat == Beat::kRestarted) co_return Lost(Error(Code::kUnavailable, "{} was restarted", name_));
    misses = beat == Beat::kAlive ? 0 : misses + 1;
    if (beat == Beat::kGone || misses >= options.heartbeat_misses) {
      co_return Lost(Error(Code::kUnavailable, "lost connection with {} at {}: {}", name_, origin_.ToString(),
                           reply.ok() ? fmt::format("it answers heartbeats with HTTP {}", reply->status)
                                      : reply.status().message()));
    }
  }
}

void PrefillPeer::Lost(Status why) {
  if (state_ != State::kReady) return;
  Disconnect();
  on_lost_(std::move(why));
}

void PrefillPeer::Disconnect() {
  if (state_ != State::kReady) return;
  state_ = State::kIdle;
  context_.paired->erase(instance_);
  beat_.cancel();
  std::exchange(line_, nullptr)->Cancel();
  followers_.clear();
  context_.link->fabric->Disconnect(id_);
  if (stopped_ || std::exchange(coming_back_, true)) return;
  asio::co_spawn(context_.strand, [self = shared_from_this()] { return self->ComeBack(); }, asio::detached);
}

// A lost server that is back in time is paired again before a request asks for it.
asio::awaitable<void> PrefillPeer::ComeBack() {
  const TimePoint end = Now() + context_.link->options.come_back_time;
  asio::steady_timer pause(context_.strand);
  while (Now() < end) {
    pause.expires_after(kComeBackPause);
    boost::system::error_code ignored;
    co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    if (stopped_ || state_ != State::kIdle) break;
    const auto instance = co_await AskInstance();
    if (stopped_ || state_ != State::kIdle) break;
    if (!instance.ok()) continue;
    WhenReady([](const Status&, const std::shared_ptr<PrefillPeer>&) {});  // says in the log how it went
    break;
  }
  coming_back_ = false;
}

void PrefillPeer::SendGrant(Grant grant, std::function<void(Frame)> on_frame,
                            std::function<void(Status)> on_closed) {
  asio::co_spawn(context_.strand,
                 [self = shared_from_this(), grant = std::move(grant), on_frame = std::move(on_frame),
                  on_closed = std::move(on_closed)]() mutable {
                   return self->RunGrant(std::move(grant), std::move(on_frame), std::move(on_closed));
                 },
                 asio::detached);
}

asio::awaitable<void> PrefillPeer::RunGrant(Grant grant, std::function<void(Frame)> on_frame,
                                            std::function<void(Status)> on_closed) {
  // A connection may fail at once (no descriptor left); the caller is not to hear of it in mid-call.
  co_await asio::post(context_.strand, asio::use_awaitable);
  const TimePoint deadline = Now() + std::chrono::milliseconds(grant.deadline_ms) + 5s;
  auto stream = co_await context_.client->Start(origin_, MakePost("/baton/v1/grant", Encode(grant)), deadline);
  if (!stream.ok()) {
    const Status failed = stream.status().Prefixed("sending the grant to prefill");
    const Code code = failed.code();
    if (code != Code::kRefused && code != Code::kUnreachable && code != Code::kResourceExhausted) co_return on_closed(failed);
    // It did not go out, so nothing will be written; other grants go on where the process may live.
    if (code == Code::kRefused && grant.pairing == pairing_) Lost(failed);
    on_frame(End{failed});
    co_return on_closed(Status::Ok());
  }
  if ((*stream)->status() == 409) {
    // Another instance, or another pairing of ours: pair anew with the next request. The grant was
    // not taken, so nothing was or will be written.
    if (grant.pairing == pairing_) Lost(Error(Code::kUnavailable, "{} was restarted", name_));
    on_frame(End{Error(Code::kUnavailable, "the prefill server was restarted")});
    co_return on_closed(Status::Ok());
  }
  if ((*stream)->status() != 200) {
    const auto body = co_await (*stream)->ReadAll(Now() + 1s, 4096);
    // Only a plain refusal says that prefill does not hold the grant. "In use" may be this very
    // grant, sent again over a fresh connection.
    if ((*stream)->status() != 400) {
      co_return on_closed(Error(Code::kUnavailable, "prefill answered HTTP {} to a grant: {}", (*stream)->status(),
                                body.ok() ? *body : ""));
    }
    on_frame(End{Error(Code::kInvalidArgument, "prefill refused the grant (HTTP {}): {}", (*stream)->status(),
                       body.ok() ? *body : "")});
    co_return on_closed(Status::Ok());
  }
  on_closed(co_await ReadFrames(**stream, deadline, on_frame));
}

asio::awaitable<Status> PrefillPeer::ReadFrames(http::ClientStream& stream, TimePoint deadline,
                                                const std::function<void(Frame)>& on_frame) {
  FrameParser parser;
  bool ended = false;
  while (true) {
    auto piece = co_await stream.Read(deadline);
    if (!piece.ok()) {
      if (ended) co_return Status::Ok();
      co_return piece.status().Prefixed("prefill died before the KV was complete");
    }
    if (piece->empty()) {
      co_return ended ? Status::Ok() : Error(Code::kUnavailable, "prefill closed the grant early");
    }
    parser.Feed(*piece);
    while (true) {
      auto frame = parser.Next();
      if (!frame.ok()) co_return frame.status();
      if (!frame->has_value()) break;
      ended = ended || std::holds_alternative<End>(**frame);
      on_frame(std::move(**frame));
    }
  }
}

void PrefillPeer::SendCancel(int64_t room, std::string_view guilty, Status why) {
  if (mute_) return;
  const Cancel cancel{context_.link->self.instance, room, guilty, std::move(why)};
  asio::co_spawn(context_.strand,
                 [self = shared_from_this(), body = Encode(cancel)]() -> asio::awaitable<void> {
                   (void)co_await self->Post("/baton/v1/cancel", body, 3s);
                 },
                 asio::detached);
}

http::ClientRequest PrefillPeer::MakePost(std::string path, std::string body) const {
  http::ClientRequest request;
  request.method = "POST";
  request.target = std::move(path);
  request.headers.Add("Content-Type", std::string(kContentType));
  request.body = std::move(body);
  return request;
}

asio::awaitable<Result<http::Response>> PrefillPeer::Post(std::string path, std::string body, Duration timeout) {
  co_return co_await context_.client->Fetch(origin_, MakePost(std::move(path), std::move(body)), Now() + timeout);
}

void PrefillPeer::Stop() {
  stopped_ = true;
  beat_.cancel();
  if (line_) line_->Cancel();
}

}  // namespace baton::disagg
