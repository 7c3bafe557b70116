#include "server/generation.h"

#include <algorithm>
#include <random>

namespace baton::server {

struct SequenceText {
  std::optional<tokenizer::IncrementalDetokenizer> detokenizer;
  StopMatcher stops;
  bool keep_stop_token;  // no_stop_trim
  bool wants_prompt_logprobs = false;
};

Generation::Generation(Context& context, asio::any_io_executor executor)
    : context_(context), mailbox_(std::make_shared<Mailbox>(executor)) {}

Generation::~Generation() {
  Abort();
  for (const Sequence& s : sequences_) context_.active.Remove(s.rid, s.id);
}

void Generation::Abort() {
  for (const Sequence& s : sequences_) {
    if (s.finish == engine::Finish::kRunning) context_.Abort(s.id);
  }
}

Status Generation::Start(std::vector<SequenceSpec> specs) {
  const int vocab = context_.engine->model_config().vocab;
  for (const SequenceSpec& spec : specs) {
    if (Status s = api::Validate(spec.sampling, vocab); !s.ok()) return s;
  }
  sequences_.reserve(specs.size());
  timings_->of.resize(specs.size());
  for (size_t i = 0; i < specs.size(); ++i) {
    if (Status s = Submit(static_cast<int>(i), std::move(specs[i])); !s.ok()) {
      Abort();
      return s;
    }
  }
  return Status::Ok();
}

Status Generation::Submit(int index, SequenceSpec spec) {
  engine::Engine& engine = *context_.engine;
  Sequence s;
  s.id = engine.NewId();
  s.rid = spec.rid;
  s.prompt_tokens = static_cast<int>(spec.prompt.size());
  s.submitted_at = Now();

  engine::Request request;
  request.id = s.id;
  request.sampling = spec.sampling;
  if (!request.sampling.seed) {
    thread_local std::mt19937_64 random{std::random_device{}()};
    const uint64_t base = context_.options.random_seed;
    request.sampling.seed = base ? base * 0x9E3779B97F4A7C15ull + context_.next_seed++ : random();
  }
  const int room = engine.options().context_length - s.prompt_tokens;
  if (request.sampling.max_new_tokens < 0) request.sampling.max_new_tokens = std::max(room, 1);
  auto text = std::make_unique<SequenceText>(SequenceText{
      std::nullopt, StopMatcher(spec.sampling.stop, spec.sampling.no_stop_trim), spec.sampling.no_stop_trim});
  if (context_.text.tokenizer) {
    text->detokenizer.emplace(*context_.text.tokenizer, spec.sampling.skip_special_tokens);
  }
  if (spec.resume) {
    Replay(s, *text, spec, std::min(room, request.sampling.max_new_tokens));
    if (s.finish != engine::Finish::kRunning) {
      sequences_.push_back(std::move(s));
      texts_.push_back(std::move(text));
      ended_at_start_.push_back(index);
      return Status::Ok();
    }
    request.resumed = std::move(spec.resume->ids);
  }
  request.prompt = std::move(spec.prompt);
  request.end_ids = context_.text.end_ids;
  request.logprobs.enabled = spec.logprobs.enabled;
  request.logprobs.prompt_start = spec.logprobs.enabled && spec.prompt_logprobs_here ? spec.logprobs.prompt_start : -1;
  // The logprobs of resumed outputs are computed anew: they come behind the prompt's.
  if (spec.logprobs.enabled && s.resumed > 0) {
    const int start = request.logprobs.prompt_start;
    request.logprobs.prompt_start = start < 0 ? s.prompt_tokens : std::min(start, s.prompt_tokens);
  }
  request.logprobs.top = spec.logprobs.top;
  request.logprobs.token_ids = spec.logprobs.token_ids;
  request.sink = mailbox_->MakeSink(index);

  const bool want_prompt_logprobs = request.logprobs.prompt_start >= 0;
  text->wants_prompt_logprobs = spec.logprobs.enabled && spec.prompt_logprobs_here && spec.logprobs.prompt_start >= 0;
  Status status = context_.Submit(std::move(request), spec.bootstrap, want_prompt_logprobs,
                                  [timings = timings_, index](const disagg::TransferTiming& timing) {
                                    std::lock_guard lock(timings->mutex);
                                    timings->of[index] = timing;
                                  });
  if (!status.ok()) return status;
  context_.metrics.requests->Add();
  context_.metrics.prompt_tokens->Add(s.prompt_tokens);
  context_.active.Add(s.rid, s.id);
  sequences_.push_back(std::move(s));
  texts_.push_back(std::move(text));
  ++running_;
  return Status::Ok();
}

// Makes text of outputs that the client has, as AddToken and End did where they were made. Events
// are cut where text could be shown, so the client has exactly this text.
void Generation::Replay(Sequence& s, SequenceText& text, const SequenceSpec& spec, int max_outputs) const {
  const std::vector<int32_t>& ids = spec.resume->ids;
  s.opened_before = spec.resume->opened || !ids.empty();
  s.ended_before = spec.resume->ended;
  s.resumed = ids.size();
  s.output_ids.reserve(ids.size() + 64);
  const auto is_in = [](const std::vector<int32_t>& list, int32_t id) {
    return std::find(list.begin(), list.end(), id) != list.end();
  };
  for (const int32_t id : ids) {
    if (s.finish != engine::Finish::kRunning) break;
    s.output_ids.push_back(id);
    const bool is_stop = (!spec.sampling.ignore_eos && is_in(context_.text.end_ids, id)) ||
                         is_in(spec.sampling.stop_token_ids, id);
    if (text.detokenizer && (!is_stop || text.keep_stop_token)) {
      std::string piece;
      text.detokenizer->Push(id, piece);
      if (text.stops.Push(piece, s.text)) {
        s.finish = engine::Finish::kStop;
        s.matched_text = text.stops.matched();
      }
    }
    if (s.finish == engine::Finish::kRunning) {
      engine::Output end;
      if (is_stop) {
        end.finish = engine::Finish::kStop;
        end.stop_token = id;
      } else if (static_cast<int>(s.output_ids.size()) >= max_outputs) {
        end.finish = engine::Finish::kLength;
      }
      if (end.finish != engine::Finish::kRunning) Finish(s, text, end);
    }
    s.text_ends.push_back(s.text.size());
  }
  // The client had its last event, whatever else ended it (an abort).
  if (s.ended_before && s.finish == engine::Finish::kRunning) s.finish = engine::Finish::kStop;
  s.resumed_text = s.text.size();
}

asio::awaitable<std::vector<int>> Generation::Next(TimePoint limit) {
  std::vector<int> changed = std::exchange(ended_at_start_, {});
  limit = std::min(limit, Now() + context_.options.watchdog);
  while (changed.empty() && running_ > 0 && Now() < limit) {
    for (const Mailbox::Letter& letter : co_await mailbox_->Take(limit)) {
      if (Apply(letter) && std::find(changed.begin(), changed.end(), letter.index) == changed.end()) {
        changed.push_back(letter.index);
      }
    }
  }
  co_return changed;
}

bool Generation::Apply(const Mailbox::Letter& letter) {
  Sequence& s = sequences_[letter.index];
  if (s.finish != engine::Finish::kRunning) return false;  // ended by a stop string: tokens after it
  const engine::Output output = letter.record.View();
  if (!output.prompt_logprobs.empty()) TakeGivenLogprobs(letter.index, output.prompt_logprobs);
  s.cached_tokens = std::max(s.cached_tokens, output.cached_tokens);
  s.retractions = output.retractions;
  if (output.has_token) {
    if (s.first_token_at == TimePoint{}) {
      s.first_token_at = letter.at;
      context_.metrics.ttft_seconds->Observe(Seconds(letter.at - s.submitted_at));
      if (output.scheduled_at != TimePoint{} && output.queued_at != TimePoint{}) {
        context_.metrics.queue_seconds->Observe(Seconds(output.scheduled_at - output.queued_at));
      }
      std::lock_guard lock(timings_->mutex);
      s.transfer = timings_->of[letter.index];
      if (s.transfer) s.cached_tokens = std::max(s.cached_tokens, s.transfer->cached_tokens);
    } else {
      context_.metrics.itl_seconds->Observe(Seconds(letter.at - s.last_token_at));
    }
    s.last_token_at = letter.at;
    AddToken(letter.index, output);
  }
  if (s.finish == engine::Finish::kRunning && output.finish != engine::Finish::kRunning) {
    End(letter.index, output);
  }
  return true;
}

void Generation::AddToken(int index, const engine::Output& output) {
  Sequence& s = sequences_[index];
  SequenceText& text = *texts_[index];
  s.output_ids.push_back(output.token);
  if (output.logprob) s.logprobs.push_back(*output.logprob);
  const bool is_stop = output.finish == engine::Finish::kStop && output.stop_token == output.token;
  if (text.detokenizer && (!is_stop || text.keep_stop_token)) {
    std::string piece;
    text.detokenizer->Push(output.token, piece);
    if (text.stops.Push(piece, s.text)) {
      s.finish = engine::Finish::kStop;
      s.matched_text = text.stops.matched();
      --running_;
      context_.Abort(s.id);
      Observe(s);
    }
  }
  s.text_ends.push_back(s.text.size());
}

void Generation::End(int index, const engine::Output& output) {
  Sequence& s = sequences_[index];
  Finish(s, *texts_[index], output);
  if (!s.text_ends.empty()) s.text_ends.back() = s.text.size();
  --running_;
  Observe(s);
}

void Generation::Finish(Sequence& s, SequenceText& text, const engine::Output& output) {
  std::string rest;
  if (text.detokenizer) {
    text.detokenizer->Flush(rest);
    if (text.stops.Push(rest, s.text)) s.matched_text = text.stops.matched();
    else text.stops.Flush(s.text);
  }
  s.finish = output.finish;
  s.status = output.status;
  s.guilty = output.guilty;
  s.matched_token = output.finish == engine::Finish::kStop ? output.stop_token : -1;
}

// Logprobs of given tokens: the prompt's, as far as asked, then those of resumed outputs.
void Generation::TakeGivenLogprobs(int index, std::span<const engine::TokenLogprob> given) {
  Sequence& s = sequences_[index];
  const size_t prompt = given.size() - std::min(given.size(), s.resumed);
  s.logprobs.assign(given.begin() + prompt, given.end());
  if (texts_[index]->wants_prompt_logprobs) s.prompt_logprobs.assign(given.begin(), given.begin() + prompt);
}

void Generation::Observe(const Sequence& s) {
  context_.metrics.generation_tokens->Add(static_cast<double>(s.output_ids.size() - s.resumed));
  context_.metrics.cached_tokens->Add(s.cached_tokens);
  context_.metrics.e2e_seconds->Observe(Seconds(Now() - s.submitted_at));
  if (s.finish == engine::Finish::kAborted || s.finish == engine::Finish::kFailed) context_.metrics.aborted->Add();
}

Status Generation::failure(std::string_view* guilty) const {
  for (const Sequence& s : sequences_) {
    if (guilty) *guilty = s.guilty;
    if (s.finish == engine::Finish::kFailed) return s.status;
    if (s.finish == engine::Finish::kAborted) {
      return s.status.ok() ? Error(Code::kCancelled, "the request was aborted") : s.status;
    }
  }
  return Status::Ok();
}

}  // namespace baton::server
