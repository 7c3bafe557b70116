// The sequences of one HTTP request: submits them, collects their tokens, makes text of them.
//
// Lives in the request's coroutine. Destroying it aborts whatever still runs.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <boost/asio/awaitable.hpp>

#include "server/context.h"
#include "server/mailbox.h"
#include "server/stop_matcher.h"

namespace baton::server {

// What is to be generated: one prompt, one output.
struct SequenceSpec {
  std::vector<int32_t> prompt;
  api::SamplingParams sampling;      // max_new_tokens -1: up to the context
  api::LogprobOptions logprobs;
  api::Bootstrap bootstrap;
  std::string rid;
  bool prompt_logprobs_here = true;  // false: a decode worker leaves them to prefill's answer
  std::optional<api::ResumeChoice> resume{};  // what the client has of it already
};

// One output so far.
struct Sequence {
  RequestId id;
  std::string rid;
  std::string text;                              // all that may be shown
  std::vector<int32_t> output_ids;
  std::vector<engine::TokenLogprob> logprobs;    // one per output id, when asked
  std::vector<engine::TokenLogprob> prompt_logprobs;
  std::vector<size_t> text_ends;                 // text.size() after each output id
  engine::Finish finish = engine::Finish::kRunning;
  Status status;                                 // kFailed: why
  std::string_view guilty;                       // kFailed in PD: engine::Output::guilty
  int32_t matched_token = -1;                    // kStop
  std::string matched_text;                      // kStop by a stop string
  int prompt_tokens = 0, cached_tokens = 0, retractions = 0;
  // Of a resumed choice. Its first `resumed` outputs were given to the client by another server:
  // they are in output_ids and their text in `text`, as if they had been made here.
  size_t resumed = 0;
  size_t resumed_text = 0;                       // bytes of `text` that the client has
  bool opened_before = false, ended_before = false;
  TimePoint submitted_at{}, first_token_at{}, last_token_at{};
  std::optional<disagg::TransferTiming> transfer;
};

// Stop strings and detokenizing of one sequence.
struct SequenceText;

class Generation {
 public:
  Generation(Context& context, asio::any_io_executor executor);
  ~Generation();
  Generation(const Generation&) = delete;

  // Submits all; on failure nothing runs.
  Status Start(std::vector<SequenceSpec> specs);

  // Waits for news and returns the indices of the sequences that have some, each once. Empty when
  // nothing came until `limit` (the watchdog time when it is not given).
  asio::awaitable<std::vector<int>> Next(TimePoint limit = TimePoint::max());

  const Sequence& operator[](int i) const { return sequences_[i]; }
  int size() const { return static_cast<int>(sequences_.size()); }
  bool done() const { return running_ == 0 && ended_at_start_.empty(); }
  // The first failure among finished sequences, or OK; `guilty` as in Sequence.
  Status failure(std::string_view* guilty = nullptr) const;
  void Abort();  // all that still run; each gets its last event

 private:
  Status Submit(int index, SequenceSpec spec);
  void Replay(Sequence& sequence, SequenceText& text, const SequenceSpec& spec, int max_outputs) const;
  bool Apply(const Mailbox::Letter& letter);
  void AddToken(int index, const engine::Output& output);
  void End(int index, const engine::Output& output);
  static void Finish(Sequence& sequence, SequenceText& text, const engine::Output& output);
  void TakeGivenLogprobs(int index, std::span<const engine::TokenLogprob> given);
  void Observe(const Sequence& sequence);

  Context& context_;
  std::shared_ptr<Mailbox> mailbox_;
  std::vector<Sequence> sequences_;
  std::vector<std::unique_ptr<SequenceText>> texts_;
  int running_ = 0;
  std::vector<int> ended_at_start_;  // resumed sequences that were complete: news for Next
  // Written by PD strands before the first token of that sequence arrives here.
  struct Timings { std::mutex mutex; std::vector<std::optional<disagg::TransferTiming>> of; };
  std::shared_ptr<Timings> timings_ = std::make_shared<Timings>();
};

}  // namespace baton::server
