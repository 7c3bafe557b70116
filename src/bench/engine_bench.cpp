#include "bench/engine_bench.h"

#include <algorithm>
#include <condition_variable>
#include <filesystem>
#include <memory>
#include <mutex>
#include <random>
#include <vector>

#include "engine/engine.h"
#include "model/hub.h"

namespace baton::bench {
namespace {

using engine::Engine;

constexpr auto kRunTimeout = 30min;  // of one repetition: a slow machine, not a hang

// Times of one round of requests.
class Round : public engine::OutputSink {
 public:
  explicit Round(int requests) : missing_first_(requests), missing_end_(requests) {}

  void OnOutput(const engine::Output& output) override {
    const std::lock_guard lock(mutex_);
    if (output.has_token) {
      if (missing_first_ == 0) ++tokens_after_first_;
      if (output.output_index == 0 && --missing_first_ == 0) all_started_ = Now();
    }
    if (output.finish == engine::Finish::kRunning) return;
    if (output.finish != engine::Finish::kLength) failure_ = output.status;
    if (--missing_end_ == 0) {
      ended_ = Now();
      changed_.notify_all();
    }
  }

  Status Wait() {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, kRunTimeout, [this] { return missing_end_ == 0; })) {
      return Error(Code::kDeadlineExceeded, "the engine took more than {} minutes", kRunTimeout.count());
    }
    return failure_;
  }

  // After Wait.
  TimePoint all_started() const { return all_started_; }
  Duration decode_time() const { return ended_ - all_started_; }
  int decoded_tokens() const { return tokens_after_first_; }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int missing_first_;
  int missing_end_;
  int tokens_after_first_ = 0;
  TimePoint all_started_{};
  TimePoint ended_{};
  Status failure_;
};

struct Sample {
  double prefill_s = 0;
  double decode_s = 0;
  int decoded_tokens = 0;
};

Status CheckOptions(const EngineBenchOptions& o) {
  const auto check = [](const char* name, int value, int low, int high) {
    if (value >= low && value <= high) return Status::Ok();
    return Error(Code::kInvalidArgument, "{} must be between {} and {}, got {}", name, low, high, value);
  };
  if (Status s = check("threads", o.threads, 0, 4096); !s.ok()) return s;
  if (Status s = check("prompt_len", o.prompt_len, 1, 1 << 20); !s.ok()) return s;
  if (Status s = check("gen_len", o.gen_len, 2, 1 << 20); !s.ok()) return s;
  if (Status s = check("batch", o.batch, 1, 4096); !s.ok()) return s;
  if (Status s = check("chunk_tokens", o.chunk_tokens, 1, 1 << 20); !s.ok()) return s;
  return check("repetitions", o.repetitions, 1, 1000);
}

Result<std::unique_ptr<kernels::Ops>> MakeOps(const EngineBenchOptions& o) {
  if (o.backend == "cpu") return kernels::MakeCpuOps({.threads = o.threads, .isa = o.isa});
  if (o.backend == "reference") return kernels::MakeReferenceOps();
  return Error(Code::kInvalidArgument, "unknown backend \"{}\"; use cpu or reference", o.backend);
}

Result<std::unique_ptr<Engine>> LoadEngine(const EngineBenchOptions& o) {
  Result<model::ModelFiles> files = model::ResolveModel(o.model_path);
  if (!files.ok()) return files.status();
  Result<std::unique_ptr<kernels::Ops>> ops = MakeOps(o);
  if (!ops.ok()) return ops.status();
  engine::EngineOptions options{.max_running = o.batch,
                                .chunk_tokens = o.chunk_tokens,
                                .max_logit_rows = o.batch,
                                .reserved_decode_tokens = o.gen_len};
  const int page_tokens = options.page_tokens;
  const int pages_each = (o.prompt_len + o.gen_len + page_tokens - 1) / page_tokens;
  options.max_total_tokens = (o.batch * pages_each + 1) * page_tokens;
  Result<std::unique_ptr<model::Model>> model =
      model::LoadModel(*files, **ops, {.max_tokens = engine::MaxStepTokens(options), .max_logit_rows = o.batch});
  if (!model.ok()) return model.status();
  if (o.prompt_len + o.gen_len > (*model)->config().context_length) {
    return Error(Code::kInvalidArgument, "prompt_len + gen_len is {}; the model's context is {}",
                 o.prompt_len + o.gen_len, (*model)->config().context_length);
  }
  return Engine::Create(std::move(*ops), std::move(*model), options);
}

std::vector<std::vector<int32_t>> RandomPrompts(const EngineBenchOptions& o, int vocab, int repetition) {
  std::mt19937 random(static_cast<uint32_t>(repetition) * 7919 + 1);
  std::uniform_int_distribution<int32_t> token(0, vocab - 1);
  std::vector<std::vector<int32_t>> prompts(static_cast<size_t>(o.batch));
  for (std::vector<int32_t>& prompt : prompts) {
    for (int i = 0; i < o.prompt_len; ++i) prompt.push_back(token(random));
  }
  return prompts;
}

Status Submit(Engine& engine, const std::vector<std::vector<int32_t>>& prompts, int max_new_tokens,
              const std::shared_ptr<Round>& round) {
  for (const std::vector<int32_t>& prompt : prompts) {
    engine::Request request{.id = engine.NewId(), .prompt = prompt, .sink = round};
    request.sampling.max_new_tokens = max_new_tokens;
    request.sampling.temperature = 0;
    request.sampling.ignore_eos = true;
    request.sampling.seed = 0;
    if (Status s = engine.Submit(std::move(request)); !s.ok()) return s;
  }
  return round->Wait();
}

Result<Sample> Measure(Engine& engine, const EngineBenchOptions& o, int repetition) {
  const auto prompts = RandomPrompts(o, engine.model_config().vocab, repetition);
  Sample sample;
  const auto prefill = std::make_shared<Round>(o.batch);
  const TimePoint begin = Now();
  if (Status s = Submit(engine, prompts, 1, prefill); !s.ok()) return s;
  sample.prefill_s = Seconds(prefill->all_started() - begin);

  const auto decode = std::make_shared<Round>(o.batch);
  if (Status s = Submit(engine, prompts, o.gen_len, decode); !s.ok()) return s;
  sample.decode_s = Seconds(decode->decode_time());
  sample.decoded_tokens = decode->decoded_tokens();
  return sample;
}

double Median(std::vector<double> values) {
  std::ranges::sort(values);
  const size_t middle = values.size() / 2;
  return values.size() % 2 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

// Multiply-adds of the linear layers for one prompt token, twice (a multiplication and an addition
// each); attention and the output head (one row of a prompt) left out.
double LinearOpsPerToken(const model::ModelConfig& c) {
  const double attention = double(c.hidden) * c.head_dim * (2.0 * c.heads + 2.0 * c.kv_heads);
  const double feed_forward = 3.0 * c.hidden * c.ffn;
  return 2.0 * c.layers * (attention + feed_forward);
}

json::object Report(const EngineBenchOptions& o, const Engine& engine,
                    double load_s, double prefill_s, double decode_tok_s) {
  const kernels::BackendInfo& backend = engine.backend();
  const kernels::CpuCeiling ceiling = kernels::MeasureCpuCeiling(backend.threads, o.ceiling_seconds);
  const double prefill_tok_s = o.batch * o.prompt_len / prefill_s;
  const double steps_per_s = decode_tok_s / o.batch;
  const double kv_bytes = static_cast<double>(engine.kv_layout().BytesPerToken()) * o.batch *
                          (o.prompt_len + o.gen_len / 2.0);
  const double decode_bytes_s = steps_per_s * (static_cast<double>(engine.weight_bytes()) + kv_bytes);
  const double prefill_ops_s = prefill_tok_s * LinearOpsPerToken(engine.model_config());
  return {{"model", std::filesystem::path(o.model_path).filename().string()},
          {"backend", backend.name},
          {"isa", backend.isa},
          {"threads", backend.threads},
          {"batch", o.batch},
          {"prompt_len", o.prompt_len},
          {"gen_len", o.gen_len},
          {"repetitions", o.repetitions},
          {"load_ms", load_s * 1e3},
          {"prefill_ms", prefill_s * 1e3},
          {"prefill_tok_s", prefill_tok_s},
          {"decode_step_ms", 1e3 / steps_per_s},
          {"decode_tok_s", decode_tok_s},
          {"weight_bytes", engine.weight_bytes()},
          {"read_gb_s", ceiling.read_bytes_per_s / 1e9},
          {"int8_gop_s", ceiling.int8_ops_per_s / 1e9},
          {"decode_gb_s", decode_bytes_s / 1e9},
          {"decode_bandwidth_share", decode_bytes_s / ceiling.read_bytes_per_s},
          {"prefill_gop_s", prefill_ops_s / 1e9},
          {"prefill_int8_share", prefill_ops_s / ceiling.int8_ops_per_s}};
}

}  // namespace

Result<json::object> RunEngineBench(const EngineBenchOptions& options) {
  if (Status s = CheckOptions(options); !s.ok()) return s;
  const TimePoint begin = Now();
  Result<std::unique_ptr<Engine>> engine = LoadEngine(options);
  if (!engine.ok()) return engine.status();
  const double load_s = Seconds(Now() - begin);
  std::vector<double> prefill_s, decode_tok_s;
  // One more than counted: the first touches cold weights and pages.
  for (int repetition = 0; repetition <= options.repetitions; ++repetition) {
    Result<Sample> sample = Measure(**engine, options, repetition);
    if (!sample.ok()) return sample.status();
    if (repetition == 0) continue;
    prefill_s.push_back(sample->prefill_s);
    decode_tok_s.push_back(sample->decoded_tokens / sample->decode_s);
  }
  return Report(options, **engine, load_s, Median(prefill_s), Median(decode_tok_s));
}

}  // namespace baton::bench
