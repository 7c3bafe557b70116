// One attempt at one request on one pair of workers (or on one worker in regular mode).
//
// Both sides get the request at once. Decode's answer is what the client gets, as it comes;
// prefill's is read in the background. The first failure of either side closes the connection to
// the twin, which is how a worker learns of a cancel. Two exceptions keep requests alive: once
// decode has spoken for a request of one sample it holds all of the KV, so that a later failure of
// prefill is only counted; and a finished answer never waits for prefill.
//
// Nothing is sent to the client before decode's first event (or whole answer) is here, so every
// failure until then can be retried or told with a proper status. A stream that fails later can go
// on in another attempt, when its StreamRecord says so. All on the request's strand.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <boost/asio/cancellation_signal.hpp>

#include "http/server.h"
#include "router/bootstrap.h"
#include "router/exchange.h"
#include "router/logprobs.h"
#include "router/services.h"
#include "router/stream_record.h"
#include "router/verdict.h"

namespace baton::router {

// What stays the same over the attempts of a request. Owned by the handler, outlives attempts'
// use of it (attempts copy what background work needs).
struct RequestPlan {
  Api api = Api::kGenerate;
  BodyFacts facts;
  http::Headers forward;  // to the workers
  Routing routing;        // for the choice of workers
  std::string request_id;
  const RequestSeries* series = nullptr;  // of its model
  TimePoint started{};
  TimePoint head_deadline{};   // first byte of a stream (of an attempt at it), or the whole answer
  bool track = false;          // ask decode for the comments that make a stream resumable
  bool may_migrate = false;    // one more migration is allowed
  int migrations = 0;          // of its stream so far
  bool merge_logprobs() const { return api == Api::kGenerate && facts.return_logprob; }
};

struct AttemptResult {
  enum class End : uint8_t {
    kAnswered,    // complete
    kClientGone,
    kFailed,      // whole events were sent, or nothing: try again, or tell `error`
  };
  End end = End::kFailed;
  RouterError error;
  bool retryable = false;
  Side failed_side = Side::kDecode;
  std::vector<WorkerPtr> avoid;  // workers not to be tried again soon
  bool spoke = false;            // this attempt gave events to the client
  bool no_worker = false;        // there was none to try
  int kills = 0;                 // workers that died with this request on board
  int status = 200;              // what was answered
};

// What the workers get. Both sides get the same unless one must be told of its rank.
struct Bodies {
  SplicedBody body;
  std::optional<SplicedBody> prefill;
};

class Attempt : public std::enable_shared_from_this<Attempt> {
 public:
  // `prefill` is empty in regular mode.
  Attempt(std::shared_ptr<Services> services, std::shared_ptr<Exchange> exchange, Lease prefill,
          Lease decode);

  // Sends `bodies` (bootstrap fields included) with `body` behind them and drives the answer into
  // `responder`. A responder that has started already gets the continuation of what `record` holds.
  asio::awaitable<AttemptResult> Run(const RequestPlan& plan, Bodies bodies,
                                     std::shared_ptr<const std::string> body, StreamRecord& record,
                                     http::Responder& responder);

 private:
  enum class Phase : uint8_t { kAbsent, kRunning, kHead, kDone, kFailed };
  struct Call {
    Side side = Side::kDecode;
    Lease lease;
    Phase phase = Phase::kAbsent;
    SideFailure failure;
    bool sent = false;     // it may have the request
    bool aborted = false;  // by us: what it says from then on does not count
    asio::cancellation_signal cancel;
    std::unique_ptr<http::ClientStream> stream;
    std::string body;  // prefill's, when it is wanted
    TimePoint progress{};
  };
  using Self = std::shared_ptr<Attempt>;

  void Launch(Call& call, http::ClientRequest request, TimePoint deadline);
  static asio::awaitable<void> Drive(Self self, Call* call, http::ClientRequest request,
                                     TimePoint deadline);
  asio::awaitable<void> DrainPrefill(TimePoint deadline);
  void Fail(Call& call, SideFailure failure);
  void ChargeLate(Call& call);
  void TellRegistry(const Call& call);
  void Abort(Call& call);
  void AbortAll();
  void OnWorkerDown(Call& call);
  void LookAgain(Call& call);
  bool PrefillStillMatters() const;
  // Prefill goes on in the background for a while after the answer is complete.
  void LeavePrefill();

  asio::awaitable<void> AwaitDecodeHead(TimePoint deadline);
  asio::awaitable<void> AwaitPrefillEnd(TimePoint deadline);
  asio::awaitable<void> AwaitEvidence();
  asio::awaitable<AttemptResult> Answer(const RequestPlan& plan, StreamRecord& record,
                                        http::Responder& responder);
  asio::awaitable<AttemptResult> AnswerWhole(const RequestPlan& plan, http::Responder& responder);
  asio::awaitable<AttemptResult> AnswerStream(const RequestPlan& plan, StreamRecord& record,
                                              http::Responder& responder);
  asio::awaitable<bool> BeginAnswer(const RequestPlan& plan, std::string_view first_events,
                                    StreamRecord& record, http::Responder& responder);
  // ForwardAll for what needs no waiting: false when it has left something in `events`, or to the
  // responder's Settle.
  bool ForwardNow(std::string_view& events, StreamRecord& record, http::Responder& responder);
  asio::awaitable<Status> ForwardAll(const RequestPlan& plan, std::string_view events,
                                     StreamRecord& record, http::Responder& responder);
  asio::awaitable<Status> ForwardGenerate(const RequestPlan& plan, std::string_view events,
                                          GenerateResume& resume, http::Responder& responder);
  static asio::awaitable<Status> Forward(std::string_view events, InputLogprobs* merge,
                                         http::Responder& responder);
  asio::awaitable<AttemptResult> EndBadStream(http::Responder& responder);
  void FinishReading();
  http::Headers AnswerHeaders(const RequestPlan& plan) const;

  bool failed() const { return prefill_.failure || decode_.failure; }
  // The end of an attempt that sent nothing: blames, gives the workers back, explains.
  asio::awaitable<AttemptResult> GiveUp();
  void NoteTimeout();
  AttemptResult ClientGone();
  // Charges each side for its own failure only; names the workers to be avoided.
  void Blame(AttemptResult& result);

  const std::shared_ptr<Services> services_;
  const std::shared_ptr<Exchange> exchange_;
  Call prefill_;
  Call decode_;
  bool keep_prefill_body_ = false;
  bool decode_spoke_ = false;
  bool over_ = false;  // answered or given up: late events only clean up
  size_t samples_ = 1;
};

}  // namespace baton::router
