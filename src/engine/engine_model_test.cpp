// Real models: whatever else runs, however a prompt is cut, cached, retracted or handed from one
// engine to another, a request gives the same tokens and the same logprobs to the bit. Tiny llamas
// on both backends; SmolLM2 when `make models` fetched it.
#include <filesystem>
#include <map>
#include <random>

#include <gtest/gtest.h>

#include "engine/engine_harness.h"
#include "model/hub.h"

namespace baton::engine {
namespace {

struct Setup {
  const char* name;
  const char* model;  // folder of tests/golden/tiny, or a file of models/
  bool cpu;           // else the reference backend
  int requests;
  int longest_prompt;
};

void PrintTo(const Setup& setup, std::ostream* out) { *out << setup.name; }

std::string PathOf(const std::string& model) {
  for (const char* folder : {"/tests/golden/tiny/", "/models/", "/../shared/fixtures/tiny/"}) {
    const std::string path = BATON_SOURCE_DIR + (folder + model);
    if (std::filesystem::exists(path)) return path;
  }
  return {};
}

class EngineModelTest : public testing::TestWithParam<Setup> {
 protected:
  void SetUp() override {
    path_ = PathOf(GetParam().model);
    if (path_.empty()) GTEST_SKIP() << GetParam().model << " is not here (make models gets SmolLM2)";
    if (GetParam().cpu && !kernels::MakeCpuOps({.threads = 1}).ok()) {
      GTEST_SKIP() << "this CPU lacks AVX2, FMA or F16C";
    }
  }

  std::unique_ptr<Engine> MakeEngine(const EngineOptions& options, int threads = 2) {
    std::unique_ptr<kernels::Ops> ops;
    if (GetParam().cpu) {
      ops = std::move(*kernels::MakeCpuOps({.threads = threads}));
    } else {
      ops = kernels::MakeReferenceOps();
    }
    const auto files = model::ResolveModel(path_);
    EXPECT_TRUE(files.ok()) << files.status().message();
    auto model = model::LoadModel(*files, *ops,
                                  {.max_tokens = MaxStepTokens(options), .max_logit_rows = options.max_logit_rows});
    EXPECT_TRUE(model.ok()) << model.status().message();
    auto engine = Engine::Create(std::move(ops), std::move(*model), options);
    EXPECT_TRUE(engine.ok()) << engine.status().message();
    return std::move(*engine);
  }

  // Requests that depend on `seed` only: some share a prefix, half of them sample.
  std::vector<Request> MakeRequests(Engine& engine, uint32_t seed = 1) const {
    std::mt19937 random(seed);
    const int vocab = engine.model_config().vocab;
    std::vector<int32_t> common;
    for (int i = 0; i < GetParam().longest_prompt; ++i) {
      common.push_back(static_cast<int32_t>(random() % static_cast<uint32_t>(vocab)));
    }
    std::vector<Request> requests;
    for (int i = 0; i < GetParam().requests; ++i) {
      Request request;
      const size_t length = 1 + random() % common.size();
      const size_t shared = random() % 2 ? random() % length : 0;
      request.prompt.assign(common.begin(), common.begin() + static_cast<ptrdiff_t>(length));
      for (size_t at = shared; at < length; ++at) {
        request.prompt[at] = static_cast<int32_t>(random() % static_cast<uint32_t>(vocab));
      }
      api::SamplingParams& p = request.sampling;
      p.max_new_tokens = 8 + static_cast<int>(random() % 16);
      p.seed = random();
      p.temperature = i % 2 ? 0.9f : 0.0f;
      if (i % 4 == 3) p.top_p = 0.9f, p.frequency_penalty = 0.4f, p.repetition_penalty = 1.1f;
      request.logprobs = {.enabled = true, .prompt_start = i % 3 == 0 ? static_cast<int>(length / 2) : -1, .top = 2};
      requests.push_back(std::move(request));
    }
    return requests;
  }

  using Results = std::vector<std::shared_ptr<Recorder>>;

  Results Run(Engine& engine, std::vector<Request> requests, bool one_by_one) {
    Results sinks;
    for (Request& request : requests) {
      sinks.push_back(std::make_shared<Recorder>());
      request.id = engine.NewId();
      request.sink = sinks.back();
      EXPECT_TRUE(engine.Submit(std::move(request)).ok());
      if (one_by_one) {
        EXPECT_TRUE(sinks.back()->Wait());
      }
    }
    for (const auto& sink : sinks) EXPECT_TRUE(sink->Wait(300s));
    return sinks;
  }

  static bool SameLogprobs(const std::vector<TokenLogprob>& a, const std::vector<TokenLogprob>& b) {
    return std::ranges::equal(a, b, [](const TokenLogprob& x, const TokenLogprob& y) {
      return x.token == y.token && std::memcmp(&x.logprob, &y.logprob, sizeof(float)) == 0 && x.top == y.top;
    });
  }

  static void ExpectSame(const Results& got, const Results& expected) {
    ASSERT_EQ(got.size(), expected.size());
    for (size_t i = 0; i < got.size(); ++i) {
      EXPECT_EQ(got[i]->tokens, expected[i]->tokens) << "request " << i;
      EXPECT_TRUE(SameLogprobs(got[i]->logprobs, expected[i]->logprobs)) << "request " << i;
      EXPECT_TRUE(SameLogprobs(got[i]->prompt_logprobs, expected[i]->prompt_logprobs)) << "request " << i;
    }
  }

  // Each request alone, its prompt in one step, nothing cached.
  EngineOptions AloneOptions() const {
    return {.max_total_tokens = 1024, .max_running = 1, .chunk_tokens = 512, .max_logit_rows = 512, .prefix_cache = false};
  }
  EngineOptions BusyOptions() const {
    return {.max_total_tokens = 4096, .max_running = 16, .chunk_tokens = 48, .max_logit_rows = 24, .reserved_decode_tokens = 32};
  }

  // Computed once per model.
  const Results& Alone() {
    static std::map<std::string, Results> results;
    Results& alone = results[GetParam().name];
    if (alone.empty()) {
      auto engine = MakeEngine(AloneOptions(), 1);
      alone = Run(*engine, MakeRequests(*engine), true);
    }
    return alone;
  }

  std::string path_;
};

TEST_P(EngineModelTest, BatchedAndChunkedIsAlone) {
  auto engine = MakeEngine(BusyOptions());
  ExpectSame(Run(*engine, MakeRequests(*engine), false), Alone());
  ExpectAllReturned(*engine);
}

TEST_P(EngineModelTest, CachedIsComputed) {
  auto engine = MakeEngine(BusyOptions());
  Run(*engine, MakeRequests(*engine), true);
  const Results again = Run(*engine, MakeRequests(*engine), false);
  ExpectSame(again, Alone());
  int cached = 0;
  for (const auto& sink : again) cached += sink->last.cached_tokens;
  EXPECT_GT(cached, 0);
  ExpectAllReturned(*engine);
}

TEST_P(EngineModelTest, RetractedIsUndisturbed) {
  EngineOptions options = BusyOptions();
  // Room for the longest alone and a little more.
  options.max_total_tokens = (GetParam().longest_prompt + 40) / 16 * 16;
  options.reserved_decode_tokens = 0;
  options.prefix_cache = false;
  auto engine = MakeEngine(options);
  std::vector<Request> requests = MakeRequests(*engine);
  // Short prompts that grow together, so that they must retract each other.
  for (Request& request : requests) {
    request.prompt.resize(std::min<size_t>(request.prompt.size(), 15));
    request.logprobs.prompt_start = -1;
    request.sampling.max_new_tokens = 30;
  }
  auto roomy = MakeEngine(AloneOptions(), 1);
  const Results expected = Run(*roomy, requests, true);
  ExpectSame(Run(*engine, requests, false), expected);
  EXPECT_GT(engine->stats().retractions, 0u);
  ExpectAllReturned(*engine);
}

TEST_P(EngineModelTest, PrefillHereDecodeThereIsOneEngine) {
  auto prefill = MakeEngine(BusyOptions());
  auto decode = MakeEngine(BusyOptions());
  std::vector<Request> requests = MakeRequests(*decode);
  Results sinks;
  for (Request& request : requests) {
    sinks.push_back(std::make_shared<Recorder>());
    request.sink = sinks.back();
    EXPECT_TRUE(SubmitPd(*prefill, *decode, std::move(request), Now() + 100s, [] { ADD_FAILURE(); }).ok());
  }
  for (const auto& sink : sinks) EXPECT_TRUE(sink->Wait(300s));
  ExpectSame(sinks, Alone());
  ExpectAllReturned(*prefill);
  ExpectAllReturned(*decode);
}

INSTANTIATE_TEST_SUITE_P(
    Models, EngineModelTest,
    testing::Values(Setup{"TinyLlamaReference", "llama", false, 10, 120}, Setup{"TinyLlamaCpu", "llama", true, 24, 300},
                    Setup{"TinyLlama3RopeCpu", "llama3-rope-tied", true, 24, 300},
                    Setup{"SmolLm2Cpu", "SmolLM2-135M-Instruct-Q4_1.gguf", true, 4, 100}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace baton::engine
