#include "disagg/prefill.h"

#include <atomic>
#include <unordered_map>

#include <boost/asio/bind_executor.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "api/errors.h"
#include "common/bytes.h"
#include "common/log.h"
#include "disagg/lifeline.h"
#include "disagg/prefill_room.h"
#include "disagg/session_table.h"

namespace baton::disagg {
namespace {

constexpr auto kTick = 100ms;
constexpr auto kPeerForgetTime = 10s;  // a decode server that stopped its heartbeats

// On this host's monotonic clock; zero stays zero.
int64_t NanosecondsOf(TimePoint t) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(t.time_since_epoch()).count();
}

// The engine's token events of a prefill-only request: everything comes through KvPush::OnEnd.
class SilentSink : public engine::OutputSink {
 public:
  void OnOutput(const engine::Output&) override {}
};

http::Response Plain(int status, std::string body) {
  http::Response response{status, {}, std::move(body)};
  response.headers.Add("Content-Type", "text/plain");
  return response;
}

}  // namespace

struct PrefillService::Impl : std::enable_shared_from_this<Impl> {
  using Action = PrefillSession::Action;

  struct Peer {
    transfer::PeerId id;
    uint64_t pairing = 0;
    std::string name;
    int page_tokens = 0;
    const transfer::PagePlan* plan = nullptr;  // from our pool to its; of `plans`
    std::shared_ptr<Lifeline> line;
    TimePoint seen_at;
  };

  Impl(boost::asio::any_io_executor executor, PrefillOptions options)
      : options(std::move(options)), strand(asio::make_strand(executor)), tick(strand),
        server(executor, ServerOptionsOf(this->options)) {}

  static http::ServerOptions ServerOptionsOf(const PrefillOptions& options) {
    http::ServerOptions out;
    out.host = options.host;
    out.port = options.bootstrap_port;
    return out;
  }

  // --- HTTP: the bootstrap server ------------------------------------------------------------

  Status StartServer() {
    // Routes live in the server, which lives in us: they must not keep us alive, requests must.
    const std::weak_ptr<Impl> weak = weak_from_this();
    const auto route = [&](const char* method, const char* path, auto handler) {
      server.Route(method, path, [weak, handler](http::Request& rq, http::Responder& rs) -> asio::awaitable<void> {
        if (const auto self = weak.lock()) co_await ((*self).*handler)(rq, rs);
      });
    };
    route("GET", "/health", &Impl::HandleHealth);
    route("GET", "/route", &Impl::HandleRoute);
    route("POST", "/baton/v1/register", &Impl::HandleRegister);
    route("POST", "/baton/v1/grant", &Impl::HandleGrant);
    route("POST", "/baton/v1/cancel", &Impl::HandleCancel);
    route("POST", "/baton/v1/heartbeat", &Impl::HandleHeartbeat);
    return server.Start();
  }

  asio::awaitable<void> HandleHealth(http::Request&, http::Responder& responder) {
    (void)co_await responder.Send(Plain(200, "OK"));
  }

  // The topology that SGLang's decode servers and tools ask for, in the names of 0.5.9 and 0.5.23.
  asio::awaitable<void> HandleRoute(http::Request& request, http::Responder& responder) {
    for (const char* key : {"engine_rank", "target_tp_rank", "target_dp_group", "prefill_dp_rank"}) {
      const std::string_view value = request.QueryValue(key);
      if (!value.empty() && value != "-1") {
        (void)co_await responder.Send(Plain(404, "Baton moves KV over its own data plane: there is no NIXL rank here"));
        co_return;
      }
    }
    const int page = link->self.layout.page_tokens;
    json::object body{{"prefill_attn_tp_size", 1}, {"prefill_dp_size", 1}, {"prefill_pp_size", 1},
                      {"prefill_page_size", page}, {"attn_tp_size", 1}, {"dp_size", 1},
                      {"pp_size", 1}, {"page_size", page}};
    http::Response response{200, {}, json::serialize(body)};
    response.headers.Add("Content-Type", "application/json");
    (void)co_await responder.Send(std::move(response));
  }

  asio::awaitable<void> HandleRegister(http::Request& request, http::Responder& responder) {
    auto peer = DecodePeerInfo(request.body);
    Status status = peer.ok() ? CheckCompatible(link->self, *peer) : peer.status();
    const auto line = std::make_shared<Lifeline>(co_await asio::this_coro::executor);
    if (status.ok()) {
      const auto id = co_await link->Connect(*peer);
      status = id.status();
      if (id.ok()) co_await OnStrand([&] { status = AddPeer(*peer, *id, request.peer, line); });
    }
    if (!status.ok()) {
      // kUnavailable: decode asks again with a new description, and says so if that is no use either.
      if (status.code() != Code::kUnavailable) log::warn("Refused to pair with decode at {}: {}", request.peer, status.ToString());
      (void)co_await responder.Send(Plain(api::HttpStatusOf(status.code()), status.message()));
      co_return;
    }
    co_await line->Run(responder, EncodeHello(link->Introduce()));
    co_await OnStrand([&] { LineEnded(peer->instance, line); });
  }

  asio::awaitable<void> HandleHeartbeat(http::Request& request, http::Responder& responder) {
    ByteReader reader(request.body);
    const auto instance = reader.Get<uint64_t>();
    bool known = false;
    co_await OnStrand([&] {
      const auto it = peers.find(instance);
      known = it != peers.end();
      if (known) it->second.seen_at = Now();
    });
    ByteWriter writer;
    writer.Put(link->self.instance);
    http::Response response = Binary(std::move(writer).bytes());
    if (!known) response.status = 409;
    (void)co_await responder.Send(std::move(response));
  }

  asio::awaitable<void> HandleGrant(http::Request& request, http::Responder& responder) {
    auto grant = DecodeGrant(request.body);
    if (!grant.ok()) {
      (void)co_await responder.Send(Plain(400, grant.status().message()));
      co_return;
    }
    const auto limit = Now() + std::chrono::milliseconds(grant->deadline_ms) + 10s;
    auto call = std::make_shared<GrantCall>(co_await asio::this_coro::executor, std::move(*grant));
    const auto self = shared_from_this();
    responder.OnDisconnect([this, self, call] {
      call->Wake();
      asio::post(strand, [this, self, call] { GrantGone(call, "decode closed the grant: it died or gave up"); });
    });
    asio::post(strand, [this, self, call] { AddGrant(call); });
    co_await call->Run(responder, limit);
  }

  asio::awaitable<void> HandleCancel(http::Request& request, http::Responder& responder) {
    const auto cancel = DecodeCancel(request.body);
    if (!cancel.ok()) {
      (void)co_await responder.Send(Plain(400, cancel.status().message()));
      co_return;
    }
    co_await OnStrand([&] { OnCancel(*cancel); });
    (void)co_await responder.Send(Plain(200, ""));
  }

  static http::Response Binary(std::string body) {
    http::Response response{200, {}, std::move(body)};
    response.headers.Add("Content-Type", std::string(kContentType));
    return response;
  }

  // Runs `work` on the strand and comes back to the caller's executor.
  template <typename Work>
  asio::awaitable<void> OnStrand(Work work) {
    const auto executor = co_await asio::this_coro::executor;
    co_await asio::post(asio::bind_executor(strand, asio::use_awaitable));
    work();
    co_await asio::post(executor, asio::use_awaitable);
  }

  // --- Strand: peers and rooms ----------------------------------------------------------------

  Status AddPeer(const PeerInfo& info, transfer::PeerId id, std::string_view address,
                 const std::shared_ptr<Lifeline>& line) {
    const auto heads = static_cast<uint32_t>(link->self.layout.kv_heads);
    const auto plan = plans.Get(PoolLayoutOf(link->self.layout), PoolLayoutOf(info.layout), {0, heads});
    if (!plan.ok()) {
      link->fabric->Disconnect(id);
      return plan.status();
    }
    // Names need not be unique: another server of this name is another server. A dead one is known by
    // its lifeline.
    if (const auto former = peers.find(info.instance); former != peers.end()) RemovePeer(former);
    const std::string name = fmt::format("{} (from {})", info.name, address);
    peers[info.instance] = Peer{id, info.pairing, name, info.layout.page_tokens, *plan, line, Now()};
    log::info("Paired with {} over {}, pages of {} tokens to pages of {}", name, link->fabric->report().provider,
              link->self.layout.page_tokens, info.layout.page_tokens);
    ArmTick();
    return Status::Ok();
  }

  // Its sends fail at once. Decode, if it lives, sees its registration end and registers anew.
  std::unordered_map<uint64_t, Peer>::iterator RemovePeer(std::unordered_map<uint64_t, Peer>::iterator it) {
    it->second.line->End();
    link->fabric->Disconnect(it->second.id);
    return peers.erase(it);
  }

  void LineEnded(uint64_t instance, const std::shared_ptr<Lifeline>& line) {
    const auto it = peers.find(instance);
    if (it == peers.end() || it->second.line != line) return;  // removed here, or registered anew
    log::warn("{} ended its registration: it stopped, died or pairs anew", it->second.name);
    RemovePeer(it);
  }

  void AddGrant(const std::shared_ptr<GrantCall>& call) {
    const Grant& grant = call->grant;
    const auto peer = peers.find(grant.decode_instance);
    if (grant.prefill_instance != link->self.instance || peer == peers.end() ||
        peer->second.pairing != grant.pairing) {
      return call->Reject(Plain(409, "not paired with this instance: register first"));
    }
    const int page_tokens = peer->second.page_tokens;
    const int64_t pages = PagesFor(grant.prompt_tokens, grant.cached_tokens, page_tokens);
    if (grant.cached_tokens % page_tokens != 0 || static_cast<int64_t>(grant.pages.size()) != pages) {
      return call->Reject(Plain(400, fmt::format("grant holds {} pages where {} are needed", grant.pages.size(), pages)));
    }
    if (const Room* room = rooms.Find(grant.room); room && room->session.has_grant()) {
      return call->Reject(Plain(423, fmt::format("bootstrap_room {} is in use: rooms must be unique", grant.room)));
    }
    peer->second.seen_at = Now();
    call->peer = peer->second.id;
    call->plan = peer->second.plan;
    Room& room = RoomOf(grant.room);
    room.grant = call;
    Perform(room, room.session.OnGrant());
  }

  void GrantGone(const std::shared_ptr<GrantCall>& call, const char* why) {
    Room* room = rooms.Find(call->grant.room);
    if (!room || room->grant != call) return;
    room->Blame("decode");
    Perform(*room, room->session.OnFail(Error(Code::kUnavailable, "{}", why)));
  }

  // Whatever half is here, or comes later, is answered at once.
  void OnCancel(const Cancel& cancel) {
    Room& room = RoomOf(cancel.room);
    if (room.grant && room.grant->grant.decode_instance != cancel.decode_instance) return;
    // An accusation is no confession: a router charges a side by its own word.
    room.Blame(cancel.guilty == "prefill" ? "none" : cancel.guilty);
    // Not kCancelled: no client of ours asked for this.
    const Code code = cancel.why.code() == Code::kCancelled ? Code::kUnavailable : cancel.why.code();
    Perform(room, room.session.OnFail(Error(code, "decode gave up on the request: {}", cancel.why.message())));
  }

  void AddRequest(engine::Request request, int64_t number) {
    auto sink = request.sink;
    const RequestId id = request.id;
    if (const Room* room = rooms.Find(number); room && room->session.has_request()) {
      return AnswerFailure(sink, id, Error(Code::kInvalidArgument, "bootstrap_room {} is in use: rooms must be unique", number));
    }
    Room& room = RoomOf(number);
    room.sink = std::move(sink);
    room.id = id;
    room.request = std::move(request);
    room_of_request[id] = number;
    Perform(room, room.session.OnRequest());
  }

  // Perform something on it: that puts a new one's deadline on the list.
  Room& RoomOf(int64_t number) {
    const auto [room, is_new] = rooms.Open(number);
    if (is_new) {
      room->number = number;
      room->deadline = Now() + options.link.bootstrap_timeout;
      ArmTick();
    }
    return *room;
  }

  void Perform(Room& room, const PrefillSession::Actions& actions) {
    for (const Action action : actions) {
      switch (action) {
        case Action::kStart: StartRoom(room); break;
        case Action::kSeal: SealRoom(room); break;
        case Action::kAbortEngine: link->engine->Abort(room.id); break;
        case Action::kCancelSend: link->fabric->CancelSend(room.send); break;
        case Action::kReleaseHold: if (room.result) room.result->hold.reset(); break;
        case Action::kEndGrant: EndGrant(room); break;
        case Action::kAnswerClient: AnswerClient(room); break;
      }
    }
    if (room.session.settled() && room.settled_at == TimePoint{}) {
      room.settled_at = Now();
      send_rooms.erase(room.send);
      if (!room.session.status().ok()) ++failed;
    }
    rooms.Update(room.number);
  }

  void StartRoom(Room& room) {
    const Grant& grant = room.grant->grant;
    const auto prompt = static_cast<int>(room.request->prompt.size() + room.request->resumed.size());
    room.started_at = Now();
    room.deadline = Now() + std::chrono::milliseconds(grant.deadline_ms);
    if (prompt != grant.prompt_tokens) {
      return FailUnstarted(room, Error(Code::kInvalidArgument,
          "prefill counts {} prompt tokens, decode {}: start both with the same model and tokenizer", prompt,
          grant.prompt_tokens), true);
    }
    auto send = link->fabric->Begin(room.grant->peer, grant.slot, link->kv_region, transfer::RegionId{0}, room.deadline);
    if (!send.ok()) {
      if (send.status().code() == Code::kUnavailable) DropPeer(room.grant->peer);
      return FailUnstarted(room, send.status(), true);
    }
    room.send = *send;
    send_rooms[*send] = room.number;

    engine::Request request = std::move(*room.request);
    room.request.reset();
    request.sink = std::make_shared<SilentSink>();
    const auto self = shared_from_this();
    const int64_t number = room.number;
    request.observer = std::make_shared<KvPush>(
        KvPush::Target{link->fabric.get(), room.send, room.grant->plan, grant.pages, grant.cached_tokens},
        [this, self, number](Status why) {
          asio::post(strand, [this, self, number, why = std::move(why)] {
            if (Room* r = rooms.Find(number)) Perform(*r, r->session.OnFail(why));
          });
        },
        [this, self, number](KvPush::Result result) {
          asio::post(strand, [this, self, number, result = std::move(result)]() mutable {
            EngineEnded(number, std::move(result));
          });
        });
    const RequestId id = request.id;
    if (Status s = link->engine->Submit(std::move(request)); !s.ok()) FailUnstarted(room, s, false);
    (void)id;
  }

  // kStart could not be carried out: tell the session that engine and send are over already.
  void FailUnstarted(Room& room, Status why, bool no_send) {
    const auto self = shared_from_this();
    asio::post(strand, [this, self, number = room.number, why = std::move(why), no_send] {
      Room* room = rooms.Find(number);
      if (!room) return;
      // A send that was begun ends by itself after kCancelSend, which OnEngineEnd asks for.
      Perform(*room, room->session.OnEngineEnd(why));
      if (no_send) Perform(*room, room->session.OnSendEnd(why));
    });
  }

  void EngineEnded(int64_t number, KvPush::Result result) {
    Room* room = rooms.Find(number);
    if (!room) return;
    const engine::Output& last = result.last.output;
    Status status = last.finish == engine::Finish::kFailed ? last.status
                  : last.finish == engine::Finish::kAborted ? Error(Code::kCancelled, "the prefill was aborted")
                  : !last.has_token ? Error(Code::kInvalidArgument, "max_new_tokens must be at least 1 in prefill/decode mode")
                  : Status::Ok();
    room->result = std::move(result);
    Perform(*room, room->session.OnEngineEnd(std::move(status)));
  }

  void SealRoom(Room& room) {
    const KvPush::Result& result = *room.result;
    const engine::Output& out = result.last.output;
    Seal seal;
    seal.writes = result.writes;
    seal.bytes = result.bytes;
    seal.first.token = out.token;
    seal.first.cached_tokens = out.cached_tokens;
    if (result.last.logprob) seal.first.logprob = *result.last.logprob;
    if (room.grant->grant.want_logprobs) seal.first.prompt_logprobs = result.last.prompt_logprobs;
    if (out.scheduled_at != TimePoint{}) {
      seal.queue_ms = static_cast<float>(Milliseconds(out.scheduled_at - room.started_at));
      seal.prefill_ms = static_cast<float>(Milliseconds(result.ended_at - out.scheduled_at));
    }
    seal.last_layer_ns = NanosecondsOf(result.last_layer_at);
    seal.first_token_ns = NanosecondsOf(out.first_token_at);
    room.grant->Send(EncodeFrame(seal), false);
    link->fabric->Finish(room.send);
  }

  // End tells decode that its pages are safe. If the fabric gave up on writes that may still land,
  // the answer is broken off instead, and decode fences.
  void EndGrant(Room& room) {
    if (room.drained) room.grant->Send(EncodeFrame(End{room.session.status()}), true);
    else room.grant->Break();
  }

  // The fabric does not know it any more.
  void DropPeer(transfer::PeerId id) {
    for (auto it = peers.begin(); it != peers.end(); ++it) {
      if (it->second.id != id) continue;
      RemovePeer(it);
      return;
    }
  }

  void AnswerClient(Room& room) {
    room_of_request.erase(room.id);
    const Status& status = room.session.status();
    if (!status.ok() || !room.result) return AnswerFailure(room.sink, room.id, status, room.guilty);
    room.sink->OnOutput(room.result->last.View());
    room.sink.reset();
  }

  static void AnswerFailure(const std::shared_ptr<engine::OutputSink>& sink, RequestId id, const Status& status,
                            std::string_view guilty = "none") {
    engine::Output out;
    out.id = id;
    out.finish = status.code() == Code::kCancelled ? engine::Finish::kAborted : engine::Finish::kFailed;
    out.status = status;
    out.guilty = guilty;
    sink->OnOutput(out);
  }

  void OnFabricEvent(const transfer::Event& event) {
    using Kind = transfer::Event::Kind;
    if (event.kind == Kind::kSendDone || event.kind == Kind::kSendFailed) {
      const auto it = send_rooms.find(event.send);
      if (it == send_rooms.end()) return;
      Room* room = rooms.Find(it->second);
      if (!room) return;
      if (event.kind == Kind::kSendDone) {
        bytes_sent += event.bytes;
        log::debug("KV sent room={} bytes={} writes={} ms={:.2f}", room->number, event.bytes, event.writes,
                   Milliseconds(event.last_at - event.first_at));
      }
      room->drained = event.drained;
      if (!event.status.ok()) room->Blame("decode");
      Perform(*room, room->session.OnSendEnd(event.status));
    } else if (event.kind == Kind::kPeerLost) {
      log::warn("Lost connection with a decode server: {}", event.status.message());
      DropPeer(event.peer);
    }
  }

  // --- Deadlines -------------------------------------------------------------------------------

  void ArmTick() {
    if (ticking || stopped) return;
    ticking = true;
    tick.expires_after(rooms.empty() ? std::chrono::milliseconds(1s) : std::chrono::milliseconds(kTick));
    tick.async_wait([this, self = shared_from_this()](boost::system::error_code error) {
      ticking = false;
      if (error || stopped) return;
      OnTick(Now());
      if (!rooms.empty() || !peers.empty()) ArmTick();
    });
  }

  void OnTick(TimePoint now) {
    while (Room* room = rooms.NextDue(now)) {
      if (room->session.settled()) rooms.Erase(room->number);
      else OnLate(*room);
    }
    for (auto it = peers.begin(); it != peers.end();) {
      if (now - it->second.seen_at > kPeerForgetTime) {
        log::warn("{} stopped its heartbeats: disconnected", it->second.name);
        it = RemovePeer(it);
      } else {
        ++it;
      }
    }
  }

  void OnLate(Room& room) {
    room.deadline = TimePoint::max();
    room.Blame("decode");
    Perform(room, room.session.OnFail(Error(Code::kDeadlineExceeded, "{}",
        room.session.started() ? "the KV transfer passed its deadline"
        : room.session.has_request() ? "decode did not grant KV pages in time (is the decode server up and "
                                       "was it sent the same bootstrap_room?)"
                                     : "the prefill request of this bootstrap_room did not come in time")));
  }

  const PrefillOptions options;
  asio::strand<boost::asio::any_io_executor> strand;
  asio::steady_timer tick;
  std::unique_ptr<Link> link;
  http::Server server;

  SessionTable<int64_t, Room> rooms;  // by number
  std::unordered_map<RequestId, int64_t> room_of_request;
  std::unordered_map<transfer::SendId, int64_t> send_rooms;
  std::unordered_map<uint64_t, Peer> peers;  // by instance
  transfer::PlanCache plans;
  bool ticking = false, stopped = false;
  bool stop_called = false;  // by the owner's thread
  std::atomic<uint64_t> bytes_sent{0}, failed{0};
};

Result<std::unique_ptr<PrefillService>> PrefillService::Start(boost::asio::any_io_executor executor,
                                                              engine::Engine& engine, PrefillOptions options) {
  auto service = std::make_unique<PrefillService>();
  service->impl_ = std::make_shared<Impl>(executor, options);
  std::weak_ptr<Impl> weak = service->impl_;
  auto link = OpenLink(options.link, engine, [weak](const transfer::Event& event) {
    if (auto impl = weak.lock()) {
      asio::post(impl->strand, [impl, event] { impl->OnFabricEvent(event); });
    }
  });
  if (!link.ok()) return link.status();
  service->impl_->link = std::move(*link);
  if (Status s = service->impl_->StartServer(); !s.ok()) return s.Prefixed("bootstrap server");
  return service;
}

PrefillService::~PrefillService() {
  Stop();
  if (!impl_) return;
  // The executor's threads have ended. What holds the implementation in a circle is let go, and the
  // fabric with its worker is gone before the engine's pages are.
  impl_->rooms.Clear();
  impl_->peers.clear();
  impl_->link.reset();
}

void PrefillService::Stop() {
  if (!impl_ || std::exchange(impl_->stop_called, true)) return;
  impl_->server.Stop();
  asio::post(impl_->strand, [impl = impl_] {
    impl->stopped = true;
    impl->tick.cancel();
  });
  if (impl_->link) impl_->link->StopConnecting();
}

Status PrefillService::Submit(engine::Request request, const api::Bootstrap& bootstrap) {
  if (bootstrap.host == api::kFakeBootstrapHost) {
    request.sampling.max_new_tokens = 1;
    return impl_->link->engine->Submit(std::move(request));
  }
  // Without an output token there is nothing to hand over: each side answers for itself.
  if (request.sampling.max_new_tokens == 0) return impl_->link->engine->Submit(std::move(request));
  if (bootstrap.room < 0) {
    return Error(Code::kInvalidArgument, "disaggregated request received without bootstrap room id: send requests "
                 "to the router, not to the prefill server");
  }
  asio::post(impl_->strand, [impl = impl_, request = std::move(request), room = bootstrap.room]() mutable {
    impl->AddRequest(std::move(request), room);
  });
  return Status::Ok();
}

void PrefillService::Abort(RequestId id) {
  impl_->link->engine->Abort(id);
  asio::post(impl_->strand, [impl = impl_, id] {
    const auto it = impl->room_of_request.find(id);
    if (it == impl->room_of_request.end()) return;
    if (Room* room = impl->rooms.Find(it->second)) {
      impl->Perform(*room, room->session.OnFail(Error(Code::kCancelled, "the client closed the prefill request")));
    }
  });
}

uint16_t PrefillService::bootstrap_port() const { return impl_->server.port(); }
const transfer::FabricReport& PrefillService::fabric() const { return impl_->link->fabric->report(); }
PrefillCounts PrefillService::counts() const { return CountsReader()(); }
std::function<PrefillCounts()> PrefillService::CountsReader() const {
  return [impl = impl_] {
    return PrefillCounts{impl->rooms.count(Room::Phase::kWaiting), impl->rooms.count(Room::Phase::kInflight)};
  };
}
transfer::Engine::Usage PrefillService::transfer_usage() const { return impl_->link->fabric->usage(); }
void PrefillService::ExportMetrics(metrics::Registry& registry) {
  impl_->link->fabric->ExportMetrics(registry);
  registry.AddCallback("sglang:num_prefill_prealloc_queue_reqs", "Requests that wait for decode's grant",
                       [impl = impl_] { return impl->rooms.count(Room::Phase::kWaiting); });
  registry.AddCallback("sglang:num_prefill_bootstrap_queue_reqs", "Requests that wait for decode's grant",
                       [impl = impl_] { return impl->rooms.count(Room::Phase::kWaiting); });
  registry.AddCallback("sglang:num_prefill_inflight_queue_reqs", "Requests computing or sending KV",
                       [impl = impl_] { return impl->rooms.count(Room::Phase::kInflight); });
  registry.AddCallback("sglang:num_transfer_failed_reqs_total", "Requests whose hand-over failed",
                       [impl = impl_] { return static_cast<double>(impl->failed.load()); });
}

}  // namespace baton::disagg
