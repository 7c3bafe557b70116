// One request over HTTP, timed: sent, first output, gaps, end, and how it failed.
//
// A RequestCaller is shared by all the streams of one io_context thread (its JSON reader and its
// settings are); each Call is a coroutine of its own. Each call ends by its deadline.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <memory>
#include <string>
#include <vector>

#include "bench/serving/record.h"
#include "bench/serving/wire.h"
#include "http/client.h"
#include "http/sse.h"

namespace baton::bench::serving {

namespace asio = boost::asio;

struct Target {
  http::Origin origin;
  std::string path;
  http::Headers headers;  // Content-Type, Authorization, --header
  Duration request_timeout{};
};

// What is in the air of one call, and its result.
struct CallState {
  RequestRecord record;
  std::vector<float> gaps_ms;
  std::string answer;  // filled when keep_answer
  bool keep_answer = false;
};

class RequestCaller {
 public:
  RequestCaller(http::Client& client, Target target, Api api, bool stream)
      : client_(client), target_(std::move(target)), stream_(stream), reader_(api) {}

  void BeginRun(TimePoint start, Tally* tally) {
    start_ = start;
    tally_ = tally;
  }
  double SecondsOf(TimePoint t) const { return Seconds(t - start_); }

  // state->record.intended_s is set by the caller; the rest is filled in. The tally hears of both
  // ends.
  asio::awaitable<void> Call(std::string body, CallState* state);

 private:
  struct Progress {
    TimePoint last_output{};
    int tokens_seen = 0;
    std::optional<int> output_tokens;
    bool ended = false;  // [DONE]
  };

  asio::awaitable<void> Exchange(std::string body, CallState* state);
  asio::awaitable<void> ReadStream(http::ClientStream& stream, TimePoint deadline,
                                   CallState* state);
  asio::awaitable<void> ReadWhole(http::ClientStream& stream, TimePoint deadline, CallState* state);
  // False: the call has failed.
  bool TakeEvent(std::string_view payload, TimePoint now, CallState* state, Progress* progress);
  void TakeOutput(const EventFacts& facts, TimePoint now, CallState* state, Progress* progress);
  static void Fail(CallState* state, Failure failure, std::string message);
  static void FailBy(CallState* state, const Status& status, Failure otherwise);
  static void Finish(CallState* state, const Progress& progress);

  http::Client& client_;
  const Target target_;
  const bool stream_;
  EventReader reader_;
  TimePoint start_{};
  Tally* tally_ = nullptr;
};

}  // namespace baton::bench::serving
