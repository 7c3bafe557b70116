#include "disagg/decode.h"

#include <atomic>
#include <map>
#include <unordered_map>

#include <boost/asio/post.hpp>

#include "common/log.h"
#include "disagg/decode_transfer.h"
#include "disagg/session_table.h"

namespace baton::disagg {
namespace {

constexpr auto kTick = 100ms;

// Where the prefill server that a router names listens for its peers.
Result<http::Origin> OriginOf(const api::Bootstrap& bootstrap, uint16_t default_port) {
  if (bootstrap.host.empty()) {
    return Error(Code::kInvalidArgument, "disaggregated request received without bootstrap_host: the router names "
                 "the prefill server there");
  }
  const int port = bootstrap.port.value_or(default_port);
  const bool bare_ipv6 = bootstrap.host.find(':') != std::string::npos && bootstrap.host.front() != '[';
  auto origin = http::ParseOrigin(bare_ipv6 ? fmt::format("http://[{}]:{}", bootstrap.host, port)
                                            : fmt::format("http://{}:{}", bootstrap.host, port));
  if (!origin.ok()) return origin.status().Prefixed("bootstrap_host");
  return origin;
}

}  // namespace

struct DecodeService::Impl : std::enable_shared_from_this<Impl> {
  using Action = DecodeSession::Action;

  Impl(boost::asio::any_io_executor executor, DecodeOptions options)
      : options(std::move(options)), strand(asio::make_strand(executor)), tick(strand), client(executor, http::ClientOptions{}) {}

  // --- Requests --------------------------------------------------------------------------------

  void Add(engine::Request request, http::Origin origin, int64_t room, bool want_prompt_logprobs,
           std::function<void(const TransferTiming&)> on_transfer) {
    const RequestId id = request.id;
    Transfer& t = *transfers.Open(id).first;
    t.id = id;
    t.room = room;
    t.sink = request.sink;
    t.prompt_tokens = static_cast<int>(request.prompt.size());
    t.kv_tokens = t.prompt_tokens + static_cast<int>(request.resumed.size());
    t.want_prompt_logprobs = want_prompt_logprobs;
    t.on_transfer = std::move(on_transfer);
    t.deadline = Now() + options.link.bootstrap_timeout;
    transfers.Update(id);
    ArmTick();
    t.peer = PeerAt(origin);
    const auto self = shared_from_this();
    const Status reserving = link->engine->ReserveKv(
        std::move(request), t.deadline, [this, self, id](Result<engine::KvReservation> reservation) {
          auto shared = std::make_shared<Result<engine::KvReservation>>(std::move(reservation));
          asio::post(strand, [this, self, id, shared] { Reserved(id, std::move(*shared)); });
        });
    if (!reserving.ok()) {
      asio::post(strand, [this, self, id, reserving] { Reserved(id, reserving); });
    }
    t.peer->WhenReady([this, self, id](Status status, std::shared_ptr<PrefillPeer> peer) {
      Transfer* t = transfers.Find(id);
      if (!t) return;
      t->peer = std::move(peer);
      // One that answers but does not pair is not broken: other decode servers may fit it.
      if (!status.ok()) t->Blame(t->peer->mute() ? "prefill" : "none");
      Perform(*t, t->session.OnPeer(std::move(status)));
    });
  }

  void Reserved(RequestId id, Result<engine::KvReservation> reservation) {
    Transfer* t = transfers.Find(id);
    if (!t) return;
    const Status status = reservation.status();
    if (!status.ok()) {
      const bool full = status.code() == Code::kResourceExhausted || status.code() == Code::kDeadlineExceeded;
      t->Blame(full ? "none" : "decode");
    }
    if (reservation.ok()) t->reservation = std::move(*reservation);
    Perform(*t, t->session.OnReserved(status));
  }

  std::shared_ptr<PrefillPeer> PeerAt(const http::Origin& origin) {
    if (const auto it = peers.find(origin); it != peers.end()) {
      if (auto peer = it->second.lock()) return peer;
    }
    // Prefill servers come and go: those that nobody holds any more are forgotten when a new one comes.
    std::erase_if(peers, [](const auto& entry) { return entry.second.expired(); });
    const auto self = shared_from_this();
    auto peer = std::make_shared<PrefillPeer>(
        PeerContext{strand, &client, link.get(), &paired}, origin,
        [this, self, origin](Status why) { PeerLost(origin, std::move(why)); });
    peers[origin] = peer;
    peer_count = peers.size();
    return peer;
  }

  void PeerLost(const http::Origin& origin, Status why) {
    const auto affected = transfers.KeysWhere([&](const Transfer& t) {
      return t.peer->origin() == origin && t.session.granted() && !t.session.started();
    });
    log::warn("{} ({} requests affected)", why.message(), affected.size());
    for (const RequestId id : affected) {
      if (Transfer* t = transfers.Find(id)) {
        t->Blame("prefill");
        Perform(*t, t->session.OnPeerBroken(why));
      }
    }
  }

  // --- Actions ---------------------------------------------------------------------------------

  void Perform(Transfer& t, const DecodeSession::Actions& actions) {
    for (const Action action : actions) {
      switch (action) {
        case Action::kGrant: SendGrant(t); break;
        case Action::kSealSlot: link->fabric->Seal(*t.slot, t.seal->writes); break;
        case Action::kStart: StartRequest(t); break;
        case Action::kAbortEngine: link->engine->Abort(t.id); break;
        case Action::kTellPrefill: t.peer->SendCancel(t.room, t.guilty.empty() ? "none" : t.guilty, t.session.status()); break;
        case Action::kCancelSlot: if (t.slot) link->fabric->Cancel(*t.slot); break;
        case Action::kFence: Fence(t); break;
        case Action::kFailClient: FailClient(t); break;
        case Action::kReleasePages: t.reservation.reset(); break;
        case Action::kReleaseSlot: ReleaseSlot(t); break;
      }
    }
    const size_t pages = t.quarantined_pages();
    quarantine_pages += pages - std::exchange(t.counted_pages, pages);
    if (t.session.finished()) transfers.Erase(t.id);
    else transfers.Update(t.id);
  }

  void SendGrant(Transfer& t) {
    const auto self = shared_from_this();
    t.peer_id = t.peer->id();
    t.deadline = Now() + options.link.transfer_timeout;
    auto slot = t.peer->ready() ? link->fabric->Expect(t.peer_id, t.deadline + 2s)
                                : Result<transfer::Slot>(Error(Code::kUnavailable, "the prefill server was lost"));
    if (!slot.ok()) {
      if (slot.status().code() == Code::kUnavailable) t.peer->Disconnect();  // pair anew next time
      asio::post(strand, [this, self, id = t.id, status = slot.status()] {
        Transfer* t = transfers.Find(id);
        if (!t) return;
        t->Blame(status.code() == Code::kUnavailable ? "prefill" : "decode");
        Perform(*t, t->session.OnGrantFailed(status));
      });
      return;
    }
    t.slot = *slot;
    slots[slot->index] = t.id;

    Grant grant;
    grant.decode_instance = link->self.instance;
    grant.prefill_instance = t.peer->instance();
    grant.pairing = t.peer->pairing();
    grant.room = t.room;
    grant.slot = *slot;
    grant.prompt_tokens = t.kv_tokens;
    grant.cached_tokens = t.reservation->cached_tokens();
    const auto pages = t.reservation->pages().subspan(grant.cached_tokens / link->self.layout.page_tokens);
    grant.pages.assign(pages.begin(), pages.end());
    grant.deadline_ms = static_cast<uint32_t>(options.link.transfer_timeout.count());
    grant.want_logprobs = t.want_prompt_logprobs;
    t.timing.cached_tokens = grant.cached_tokens;
    t.peer->SendGrant(
        std::move(grant), [this, self, id = t.id](Frame frame) { OnFrame(id, std::move(frame)); },
        [this, self, id = t.id](Status status) {
          if (status.ok()) return;
          Transfer* t = transfers.Find(id);
          if (!t) return;
          t->Blame("prefill");
          Perform(*t, t->session.OnPeerBroken(std::move(status)));
        });
  }

  void OnFrame(RequestId id, Frame frame) {
    Transfer* t = transfers.Find(id);
    if (!t) return;
    if (auto* end = std::get_if<End>(&frame)) {
      // Who has no room, or we no descriptor for the grant, is not broken.
      if (!end->status.ok()) t->Blame(end->status.code() == Code::kResourceExhausted ? "none" : "prefill");
      return Perform(*t, t->session.OnEnd(end->status));
    }
    t->seal = std::move(std::get<Seal>(frame));
    t->sealed_at = Now();
    Perform(*t, t->session.OnSeal());
  }

  void StartRequest(Transfer& t) {
    Seal& seal = *t.seal;
    t.timing.prefill_ms = seal.prefill_ms;
    t.timing.prefill_queue_ms = seal.queue_ms;
    const TimePoint now = Now();
    t.timing.after_seal_ms = Milliseconds(now - t.sealed_at);
    const auto since = [&](int64_t ns) {
      if (!t.peer->shares_clock() || ns <= 0) return -1.0;
      return Milliseconds(now.time_since_epoch() - std::chrono::nanoseconds(ns));
    };
    t.timing.exposed_ms = since(seal.last_layer_ns);
    t.timing.handover_ms = since(seal.first_token_ns);
    t.timing.bytes = seal.bytes;
    t.timing.cached_tokens = std::max(t.timing.cached_tokens, seal.first.cached_tokens);
    const double gb_per_s = t.timing.transfer_ms > 0 ? seal.bytes / t.timing.transfer_ms / 1e6 : 0;
    log::debug("KV received room={} from={} bytes={} writes={} ms={:.2f} GB/s={:.3f} exposed_ms={:.2f} handover_ms={:.2f}",
               t.room, t.peer->name(), seal.bytes, seal.writes, t.timing.transfer_ms, gb_per_s, t.timing.exposed_ms,
               t.timing.handover_ms);
    if (observe_transfer) observe_transfer(t.timing);
    if (t.on_transfer) t.on_transfer(t.timing);
    link->engine->StartWithKv(std::move(*t.reservation), std::move(seal.first));
    t.reservation.reset();
  }

  void FailClient(Transfer& t) {
    if (t.session.status().code() != Code::kCancelled) {
      ++failed;
      log::warn("KV hand-over failed room={}: {}", t.room, t.session.status().message());
    }
    engine::Output out;
    out.id = t.id;
    out.finish = t.session.status().code() == Code::kCancelled ? engine::Finish::kAborted : engine::Finish::kFailed;
    out.status = t.session.status();
    out.guilty = t.guilty.empty() ? "none" : t.guilty;
    out.prompt_tokens = t.prompt_tokens;
    t.sink->OnOutput(out);
    t.sink.reset();
  }

  // After the disconnect no write of that peer can land; kFenced then frees all its quarantine. It is
  // still to come for every session that asks: grants are made in a pairing that holds, and those of one
  // that ended have heard its kFenced.
  void Fence(Transfer& t) {
    if (t.peer->ready() && t.peer->id() == t.peer_id) t.peer->Disconnect();
  }

  void ReleaseSlot(Transfer& t) {
    slots.erase(t.slot->index);
    link->fabric->Release(*t.slot);
  }

  void OnFabricEvent(const transfer::Event& event) {
    using Kind = transfer::Event::Kind;
    switch (event.kind) {
      case Kind::kReceiveDone:
      case Kind::kReceiveFailed: {
        const auto it = slots.find(event.slot.index);
        Transfer* t = it == slots.end() ? nullptr : transfers.Find(it->second);
        if (!t || !t->slot || !(*t->slot == event.slot)) return;
        t->timing.transfer_ms = Milliseconds(event.last_at - event.first_at);
        if (!event.status.ok()) t->Blame("prefill");
        return Perform(*t, t->session.OnSlotEnd(event.status));
      }
      case Kind::kFenced: {
        const auto ids = transfers.KeysWhere([&](const Transfer& t) {
          return t.session.granted() && t.peer_id == event.peer;
        });
        for (const RequestId id : ids) {
          if (Transfer* t = transfers.Find(id)) {
            t->Blame("prefill");
            Perform(*t, t->session.OnFenced());
          }
        }
        return;
      }
      case Kind::kPeerLost:
        for (const auto& [origin, weak] : peers) {
          if (const auto peer = weak.lock(); peer && peer->ready() && peer->id() == event.peer) {
            peer->Disconnect();
            return PeerLost(origin, event.status);
          }
        }
        return;
      case Kind::kSendDone:
      case Kind::kSendFailed: return;
    }
  }

  // --- Deadlines -------------------------------------------------------------------------------

  void ArmTick() {
    if (ticking || stopped) return;
    ticking = true;
    tick.expires_after(kTick);
    tick.async_wait([this, self = shared_from_this()](boost::system::error_code error) {
      ticking = false;
      if (error || stopped) return;
      OnTick(Now());
      if (!transfers.empty()) ArmTick();
    });
  }

  void OnTick(TimePoint now) {
    while (Transfer* t = transfers.NextDue(now)) OnLate(*t, now);
  }

  void OnLate(Transfer& t, TimePoint now) {
    // Prefill gets time to confirm that it stopped; after that it is cut off.
    t.deadline = now + 5s;
    if (!t.session.status().ok()) return Perform(t, t.session.OnPeerBroken(t.session.status()));
    t.Blame(t.session.granted() || !t.peer->ready() ? "prefill" : "none");
    Perform(t, t.session.OnFail(Error(Code::kDeadlineExceeded, "{}", t.session.granted()
        ? "the prefill server did not deliver the KV in time"
        : "no KV pages became free in time, or the prefill server did not answer")));
  }

  const DecodeOptions options;
  asio::strand<boost::asio::any_io_executor> strand;
  asio::steady_timer tick;
  http::Client client;
  std::unique_ptr<Link> link;
  std::function<void(const TransferTiming&)> observe_transfer;  // metrics; set before traffic

  SessionTable<RequestId, Transfer> transfers;
  std::unordered_map<uint32_t, RequestId> slots;  // by slot index
  std::map<http::Origin, std::weak_ptr<PrefillPeer>> peers;
  PairedInstances paired;
  bool ticking = false, stopped = false;
  bool stop_called = false;  // by the owner's thread
  std::atomic<size_t> quarantine_pages{0}, peer_count{0};
  std::atomic<uint64_t> failed{0};
};

Result<std::unique_ptr<DecodeService>> DecodeService::Start(boost::asio::any_io_executor executor,
                                                            engine::Engine& engine, DecodeOptions options) {
  auto service = std::make_unique<DecodeService>();
  service->impl_ = std::make_shared<Impl>(executor, options);
  std::weak_ptr<Impl> weak = service->impl_;
  auto link = OpenLink(options.link, engine, [weak](const transfer::Event& event) {
    if (auto impl = weak.lock()) {
      asio::post(impl->strand, [impl, event] { impl->OnFabricEvent(event); });
    }
  });
  if (!link.ok()) return link.status();
  service->impl_->link = std::move(*link);
  return service;
}

DecodeService::~DecodeService() {
  Stop();
  if (!impl_) return;
  // See PrefillService: the executor's threads have ended.
  impl_->transfers.Clear();
  impl_->link.reset();
}

void DecodeService::Stop() {
  if (!impl_ || std::exchange(impl_->stop_called, true)) return;
  asio::post(impl_->strand, [impl = impl_] {
    impl->stopped = true;
    impl->tick.cancel();
    for (const auto& [origin, weak] : impl->peers) {
      if (const auto peer = weak.lock()) peer->Stop();
    }
  });
  if (impl_->link) impl_->link->StopConnecting();
}

Status DecodeService::Submit(engine::Request request, const api::Bootstrap& bootstrap, bool want_prompt_logprobs,
                             std::function<void(const TransferTiming&)> on_transfer) {
  // Probes run here whole; without an output token there is nothing to hand over.
  if (bootstrap.host == api::kFakeBootstrapHost || request.sampling.max_new_tokens == 0) {
    return impl_->link->engine->Submit(std::move(request));
  }
  if (bootstrap.room < 0) {
    return Error(Code::kInvalidArgument, "disaggregated request received without bootstrap room id: send requests "
                 "to the router, not to the decode server");
  }
  auto origin = OriginOf(bootstrap, impl_->options.default_bootstrap_port);
  if (!origin.ok()) return origin.status();
  if (static_cast<int>(request.prompt.size() + request.resumed.size()) > impl_->link->engine->max_prompt_tokens()) {
    return Error(Code::kInvalidArgument, "the prompt has {} tokens, the longest this server takes is {}",
                 request.prompt.size(), impl_->link->engine->max_prompt_tokens());
  }
  asio::post(impl_->strand, [impl = impl_, request = std::move(request), origin = std::move(*origin),
                             room = bootstrap.room, want_prompt_logprobs,
                             on_transfer = std::move(on_transfer)]() mutable {
    impl->Add(std::move(request), std::move(origin), room, want_prompt_logprobs, std::move(on_transfer));
  });
  return Status::Ok();
}

Status DecodeService::Pair(const api::Bootstrap& bootstrap, std::function<void(Status)> done) {
  auto origin = OriginOf(bootstrap, impl_->options.default_bootstrap_port);
  if (!origin.ok()) return origin.status();
  asio::post(impl_->strand, [impl = impl_, origin = std::move(*origin), done = std::move(done)]() mutable {
    if (impl->stopped) return done(Error(Code::kUnavailable, "the server is stopping"));
    impl->PeerAt(origin)->WhenReady(
        [done = std::move(done)](Status status, const std::shared_ptr<PrefillPeer>&) { done(std::move(status)); });
  });
  return Status::Ok();
}

void DecodeService::Abort(RequestId id) {
  asio::post(impl_->strand, [impl = impl_, id] {
    if (Transfer* t = impl->transfers.Find(id)) {
      impl->Perform(*t, t->session.OnFail(Error(Code::kCancelled, "the client closed the request")));
    } else {
      impl->link->engine->Abort(id);
    }
  });
}

const transfer::FabricReport& DecodeService::fabric() const { return impl_->link->fabric->report(); }
DecodeCounts DecodeService::counts() const { return CountsReader()(); }
std::function<DecodeCounts()> DecodeService::CountsReader() const {
  return [impl = impl_] {
    using Phase = Transfer::Phase;
    return DecodeCounts{impl->transfers.count(Phase::kPrealloc), impl->transfers.count(Phase::kTransfer),
                        impl->transfers.count(Phase::kQuarantine), static_cast<int>(impl->peer_count.load())};
  };
}
transfer::Engine::Usage DecodeService::transfer_usage() const { return impl_->link->fabric->usage(); }

void DecodeService::ExportMetrics(metrics::Registry& registry) {
  Impl* impl = impl_.get();
  impl->link->fabric->ExportMetrics(registry);
  const auto gauge = [&](const char* name, const char* help, auto read) {
    registry.AddCallback(name, help, [impl = impl_, read] { return static_cast<double>(read(*impl)); });
  };
  gauge("sglang:num_decode_prealloc_queue_reqs", "Requests that wait for pages or for their prefill peer",
        [](const Impl& i) { return i.transfers.count(Transfer::Phase::kPrealloc); });
  gauge("sglang:num_decode_transfer_queue_reqs", "Requests whose KV is being transferred",
        [](const Impl& i) { return i.transfers.count(Transfer::Phase::kTransfer); });
  gauge("baton_decode_quarantined_reqs", "Failed requests whose pages wait for prefill's confirmation",
        [](const Impl& i) { return i.transfers.count(Transfer::Phase::kQuarantine); });
  gauge("baton_decode_quarantined_pages", "KV pages that failed requests hold until prefill confirms or is fenced",
        [](const Impl& i) { return i.quarantine_pages.load(); });
  gauge("sglang:num_transfer_failed_reqs_total", "Requests whose hand-over failed",
        [](const Impl& i) { return i.failed.load(); });
  auto* latency = registry.AddHistogram("sglang:kv_transfer_latency_ms", "First to last KV write of a request",
                                        {0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000, 10000});
  auto* exposed = registry.AddHistogram("baton_kv_transfer_exposed_ms",
                                        "From the last layer's keys and values to decode's start, on one host",
                                        {0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000, 10000});
  auto* handover = registry.AddHistogram("baton_kv_transfer_handover_ms",
                                         "From prefill's first token to decode's start, on one host",
                                         {0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000, 10000});
  auto* after_seal = registry.AddHistogram("baton_kv_transfer_after_seal_ms",
                                           "From the arrival of prefill's seal to decode's start",
                                           {0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000, 10000});
  auto* speed = registry.AddGauge("sglang:kv_transfer_speed_gb_s", "KV bandwidth of the last request");
  auto* total = registry.AddCounter("baton_kv_received_bytes_total", "KV bytes received");
  impl->observe_transfer = [latency, exposed, handover, after_seal, speed, total](const TransferTiming& t) {
    latency->Observe(t.transfer_ms);
    if (t.exposed_ms >= 0) exposed->Observe(t.exposed_ms);
    if (t.handover_ms >= 0) handover->Observe(t.handover_ms);
    after_seal->Observe(t.after_seal_ms);
    if (t.transfer_ms > 0) speed->Set(t.bytes / t.transfer_ms / 1e6);
    total->Add(static_cast<double>(t.bytes));
  };
}

}  // namespace baton::disagg
