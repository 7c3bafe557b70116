// What the engine's tests share: a sink that records, an oracle for FakeModel, and a PD pair in one
// process that copies pages as a transfer would.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstring>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "engine/engine.h"
#include "engine/fake_model.h"
#include "engine/sampler.h"

namespace baton::engine {

// Everything a request was told. Read it after Wait.
class Recorder : public OutputSink {
 public:
  void OnOutput(const Output& output) override {
    const std::lock_guard lock(mutex_);
    if (finish != Finish::kRunning) ++events_after_end;
    if (output.has_token) {
      EXPECT_EQ(output.output_index, static_cast<int>(tokens.size()));
      tokens.push_back(output.token);
      if (output.logprob != nullptr) logprobs.push_back(*output.logprob);
    }
    EXPECT_EQ(output.output_tokens, static_cast<int>(tokens.size()));
    for (const TokenLogprob& logprob : output.prompt_logprobs) prompt_logprobs.push_back(logprob);
    last = output;
    last.logprob = nullptr;
    last.prompt_logprobs = {};
    finish = output.finish;
    changed_.notify_all();
  }

  // True once the last event came.
  bool Wait(Duration timeout = 60s) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, timeout, [this] { return finish != Finish::kRunning; });
  }
  bool WaitForTokens(size_t count, Duration timeout = 60s) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, timeout, [&] {
      return tokens.size() >= count || finish != Finish::kRunning;
    });
  }

  std::vector<int32_t> tokens;
  std::vector<TokenLogprob> logprobs;
  std::vector<TokenLogprob> prompt_logprobs;
  Finish finish = Finish::kRunning;
  Output last;
  int events_after_end = 0;

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
};

inline EngineOptions SmallOptions() {
  return {.page_tokens = 4,
          .max_total_tokens = 256,
          .max_running = 8,
          .chunk_tokens = 16,
          .max_logit_rows = 16,
          .reserved_decode_tokens = 8};
}

inline std::unique_ptr<Engine> MakeFakeEngine(const EngineOptions& options, int context_length = 4096) {
  Result<std::unique_ptr<Engine>> engine = Engine::Create(
      kernels::MakeReferenceOps(), std::make_unique<FakeModel>(context_length), options);
  if (!engine.ok()) {
    ADD_FAILURE() << engine.status().ToString();
    return nullptr;
  }
  return std::move(*engine);
}

inline std::vector<int32_t> Prompt(int length, int salt = 0) {
  std::vector<int32_t> prompt;
  for (int i = 0; i < length; ++i) prompt.push_back((i * 7 + salt * 13 + i / 5) % FakeModel::kVocab);
  return prompt;
}

inline Request GreedyRequest(Engine& engine, std::vector<int32_t> prompt, int max_new_tokens,
                             std::shared_ptr<OutputSink> sink) {
  Request request{.id = engine.NewId(), .prompt = std::move(prompt), .sink = std::move(sink)};
  request.sampling.max_new_tokens = max_new_tokens;
  request.sampling.temperature = 0;
  request.sampling.seed = 1;
  return request;
}

// The tokens that FakeModel gives for `request`, computed without any engine.
inline std::vector<int32_t> ExpectedTokens(const Request& request, int context_length = 4096) {
  Sampler sampler(FakeModel::kVocab);
  TokenCounts counts;
  counts.AddPrompt(request.prompt);
  std::vector<int32_t> tokens = request.prompt;
  std::vector<int32_t> outputs;
  const api::SamplingParams& p = request.sampling;
  const auto has = [](const std::vector<int32_t>& ids, int32_t id) {
    return std::find(ids.begin(), ids.end(), id) != ids.end();
  };
  while ((p.max_new_tokens < 0 || static_cast<int>(outputs.size()) < p.max_new_tokens) &&
         static_cast<int>(tokens.size()) < context_length) {
    SampleInput input{.params = &p, .counts = &counts, .output_index = static_cast<int>(outputs.size())};
    if (static_cast<int>(outputs.size()) < p.min_new_tokens) {
      if (!p.ignore_eos) input.masked = request.end_ids;
      input.more_masked = p.stop_token_ids;
    }
    const int32_t token = *sampler.Sample(FakeModel::LogitsBehind(tokens), input);
    tokens.push_back(token);
    outputs.push_back(token);
    counts.AddOutput(token);
    if ((!p.ignore_eos && has(request.end_ids, token)) || has(p.stop_token_ids, token)) break;
  }
  return outputs;
}

// Waits until the engine has nothing to do, then checks that nothing leaked.
inline void ExpectAllReturned(Engine& engine) {
  EngineStats stats;
  for (int i = 0; i < 2000; ++i) {
    stats = engine.stats();
    if (stats.running + stats.queued + stats.reserving + stats.reserved + stats.holds == 0 &&
        stats.pages_used == 0) {
      break;
    }
    std::this_thread::sleep_for(1ms);
  }
  EXPECT_EQ(stats.pages_used, 0);
  EXPECT_EQ(stats.running, 0);
  EXPECT_EQ(stats.queued, 0);
  EXPECT_EQ(stats.reserving, 0);
  EXPECT_EQ(stats.reserved, 0);
  EXPECT_EQ(stats.holds, 0);
  EXPECT_EQ(stats.pages_free + stats.pages_cached, stats.pages_total);
}

// Copies each piece of KV that the prefill engine reports into the pages that decode granted, then
// starts decode. Keeps its reservation until OnEnd.
class PageCopier : public PrefillObserver {
 public:
  // `failed` is called when prefill ends without a token.
  PageCopier(Engine& prefill, Engine& decode, KvReservation reservation, std::function<void()> failed)
      : prefill_(prefill),
        decode_(decode),
        reservation_(std::move(reservation)),
        failed_(std::move(failed)) {}

  void OnKvReady(int layer_begin, int layer_end, int token_begin, int token_end,
                 std::span<const PageId> pages) override {
    const kernels::KvLayout& layout = prefill_.kv_layout();
    EXPECT_EQ(token_begin % layout.page_tokens, 0);
    EXPECT_LT(token_begin, token_end);
    ready_tokens += static_cast<int64_t>(layer_end - layer_begin) * (token_end - token_begin);
    const kernels::KvPool from{layout, prefill_.kv_memory().data, 0};
    const kernels::KvPool to{layout, decode_.kv_memory().data, 0};
    for (int page = token_begin / layout.page_tokens; page * layout.page_tokens < token_end; ++page) {
      if (page < reservation_.cached_tokens() / layout.page_tokens) continue;
      for (int layer = layer_begin; layer < layer_end; ++layer) {
        std::memcpy(to.LayerOfPage(reservation_.pages()[static_cast<size_t>(page)], layer),
                    from.LayerOfPage(pages[static_cast<size_t>(page)], layer), layout.LayerBytes());
      }
    }
  }

  void OnEnd(const Output& last, std::shared_ptr<KvHold> hold) override {
    hold_ = std::move(hold);
    finish = last.finish;
    if (!last.has_token) {
      hold_.reset();
      reservation_ = KvReservation();
      return failed_();
    }
    // All that was given: the prompt and resumed outputs, not the token sampled behind them.
    EXPECT_EQ(ready_tokens, int64_t{prefill_.kv_layout().layers} * (last.prompt_tokens + last.output_tokens - 1));
    FirstToken first{.token = last.token, .cached_tokens = last.cached_tokens};
    if (last.logprob != nullptr) first.logprob = *last.logprob;
    first.prompt_logprobs.assign(last.prompt_logprobs.begin(), last.prompt_logprobs.end());
    decode_.StartWithKv(std::move(reservation_), std::move(first));
    hold_.reset();
  }

  int64_t ready_tokens = 0;
  Finish finish = Finish::kRunning;

 private:
  Engine& prefill_;
  Engine& decode_;
  KvReservation reservation_;
  std::function<void()> failed_;
  std::shared_ptr<KvHold> hold_;
};

// Runs `request` (its id is replaced) with prefill on one engine and decode on the other. The sink
// hears decode; when prefill fails or no pages come, `failed` is called.
inline Status SubmitPd(Engine& prefill, Engine& decode, Request request, TimePoint deadline,
                       std::function<void()> failed = [] {}) {
  request.id = decode.NewId();
  Request prefill_part = request;
  prefill_part.id = prefill.NewId();
  prefill_part.sink = nullptr;
  return decode.ReserveKv(
      std::move(request), deadline,
      [&prefill, &decode, prefill_part, failed](Result<KvReservation> reservation) mutable {
        if (!reservation.ok()) return failed();
        prefill_part.observer = std::make_shared<PageCopier>(prefill, decode, std::move(*reservation), failed);
        if (Status s = prefill.Submit(std::move(prefill_part)); !s.ok()) failed();
      });
}

}  // namespace baton::engine
