#include "server/startup.h"

#include <unistd.h>

#include <algorithm>
#include <sstream>

#include "common/log.h"
#include "transfer/topology/hw_counters.h"
#include "transfer/topology/topology.h"

namespace baton::server {
namespace {

Result<std::unique_ptr<kernels::Ops>> MakeOps(const ServerOptions& options) {
  if (options.device != "cpu" && options.device != "auto") {
    return Error(Code::kUnsupported, "--device {} is not in this build: use --device cpu", options.device);
  }
  auto ops = kernels::MakeCpuOps({options.threads, options.isa});
  if (ops.ok() || !options.isa.empty()) return ops;
  log::warn("{}: falling back to the reference backend, which is slow", ops.status().message());
  return kernels::MakeReferenceOps();
}

Result<kernels::DType> KvDType(const std::string& name) {
  if (name == "auto" || name == "f16" || name == "float16" || name == "half") return kernels::DType::kF16;
  if (name == "bf16" || name == "bfloat16") return kernels::DType::kBF16;
  if (name == "f32" || name == "float32" || name == "float") return kernels::DType::kF32;
  return Error(Code::kInvalidArgument, "--kv-cache-dtype {} is not supported on this device: use auto, float16, bfloat16 or "
               "float32", name);
}

RequestMetrics AddRequestMetrics(metrics::Registry& r) {
  const std::vector<double> ttft = {0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 2, 4, 6, 8, 10, 20, 40, 60, 80, 100, 200, 400};
  const std::vector<double> itl = {0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.06, 0.1, 0.2, 0.5, 1, 2, 4, 8};
  const std::vector<double> e2e = {0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 2, 4, 6, 8, 10, 20, 40, 60, 80, 100, 200, 400, 600, 1200, 1800, 2400};
  return {r.AddCounter("sglang:num_requests_total", "Sequences taken in"),
          r.AddCounter("sglang:num_aborted_requests_total", "Sequences that were aborted or failed"),
          r.AddCounter("sglang:prompt_tokens_total", "Prompt tokens"),
          r.AddCounter("sglang:generation_tokens_total", "Output tokens"),
          r.AddCounter("sglang:cached_tokens_total", "Prompt tokens taken from the prefix cache"),
          r.AddHistogram("sglang:time_to_first_token_seconds", "Time to the first token", ttft),
          r.AddHistogram("sglang:inter_token_latency_seconds", "Time between tokens", itl),
          r.AddHistogram("sglang:e2e_request_latency_seconds", "Time to the last token", e2e),
          r.AddHistogram("sglang:queue_time_seconds", "Time until the first step",
                         {0, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 3000})};
}

void AddEngineMetrics(Context& c) {
  const auto gauge = [&c](const char* name, const char* help, auto read) {
    c.registry.AddCallback(name, help, [&c, read] { return static_cast<double>(read(c.engine->stats())); });
  };
  using Stats = engine::EngineStats;
  gauge("sglang:num_running_reqs", "Sequences in the running batch", [](const Stats& s) { return s.running; });
  gauge("sglang:num_queue_reqs", "Sequences that wait", [](const Stats& s) { return s.queued; });
  gauge("sglang:num_retracted_reqs", "Retracted sequences that wait", [](const Stats& s) { return s.retracted; });
  gauge("sglang:num_retracted_requests_total", "Retractions", [](const Stats& s) { return s.retractions; });
  gauge("sglang:max_total_num_tokens", "KV pool size in tokens", [](const Stats& s) { return s.max_total_tokens; });
  gauge("sglang:token_usage", "Share of the KV pool in use", [](const Stats& s) { return s.token_usage; });
  gauge("sglang:gen_throughput", "Output tokens per second", [](const Stats& s) { return s.gen_tok_s; });
  gauge("sglang:evicted_tokens_total", "Tokens evicted from the prefix cache", [](const Stats& s) { return s.evicted_tokens; });
  gauge("baton_kv_pages_total", "KV pages of the pool", [](const Stats& s) { return s.pages_total; });
  gauge("baton_kv_pages_free", "KV pages on the free list", [](const Stats& s) { return s.pages_free; });
  gauge("baton_kv_pages_cached", "KV pages only in the prefix cache", [](const Stats& s) { return s.pages_cached; });
  gauge("baton_kv_pages_used", "KV pages owned by sequences, grants and holds", [](const Stats& s) { return s.pages_used; });
  gauge("baton_kv_reservations", "Page reservations held for transfers", [](const Stats& s) { return s.reserved; });
  gauge("baton_kv_holds", "Finished prefills whose pages a transfer still reads", [](const Stats& s) { return s.holds; });
  gauge("baton_engine_steps_total", "Engine steps", [](const Stats& s) { return s.steps; });
  const int page = c.engine->options().page_tokens;
  gauge("sglang:num_used_tokens", "KV tokens in use", [page](const Stats& s) { return s.pages_used * page; });
}

void LogFlags(const ServerOptions& o) {
  std::string quoted, plain;
  for (const auto& flag : o.all_flags) {
    const json::value& v = flag.value();
    const std::string text = v.is_string() ? std::string(v.get_string()) : v.is_null() ? "None"
                           : v.is_bool() ? (v.get_bool() ? "True" : "False") : json::serialize(v);
    if (!quoted.empty()) { quoted += ", "; plain += ' '; }
    quoted += fmt::format("{}={}", std::string_view(flag.key()), v.is_string() ? "'" + text + "'" : text);
    plain += fmt::format("{}={}", std::string_view(flag.key()), text);
  }
  // Guides grep both spellings (specs/sglang-pd-protocol.md section 5).
  log::info("server_args=ServerArgs({})", quoted);
  log::info("{}", plain);
}

std::string HostName() {
  char name[256] = "localhost";
  ::gethostname(name, sizeof name - 1);
  return name;
}

std::string ModelFingerprint(const model::ModelConfig& c) {
  return fmt::format("{} with {} layers, hidden {}, {} heads, vocabulary {}", c.architecture, c.layers, c.hidden, c.heads, c.vocab);
}

// Which cards serve which GPU and which memory; nothing where there are no RDMA cards.
void LogTopology(const std::string& sysfs_root) {
  const auto topology = transfer::ReadSysfsTopology(sysfs_root);
  if (!topology.ok() || topology->nics.empty()) return;
  std::istringstream lines(topology->Describe());
  for (std::string line; std::getline(lines, line);) log::info("{}", line);
}

disagg::LinkOptions LinkOf(const Context& c) {
  disagg::LinkOptions out;
  out.name = fmt::format("{} {}:{}", ModeName(c.options.mode), HostName(), c.options.port);
  out.model = ModelFingerprint(c.engine->model_config());
  out.fabric = c.options.fabric;
  // A send is taken when both halves of a request have met, before the engine's queue.
  const engine::EngineOptions& e = c.engine->options();
  out.fabric.max_sends = std::max<uint32_t>(out.fabric.max_sends, e.max_queued + e.max_running);
  out.fabric.max_slots = std::max<uint32_t>(out.fabric.max_slots, e.max_queued + e.max_running);
  // The whole of the longest prompt in one push (a prefix hit): keys and values of each layer of each
  // piece of a page, where the other side's pages are as small as can be expected.
  constexpr uint64_t kSmallPage = 16, kMostRuns = 1 << 20;
  const uint64_t pieces = static_cast<uint64_t>(e.context_length) / kSmallPage + 1;
  const uint64_t runs = 2 * pieces * static_cast<uint64_t>(c.engine->kv_layout().layers);
  out.fabric.max_queued_runs = static_cast<uint32_t>(std::clamp<uint64_t>(runs, out.fabric.max_queued_runs, kMostRuns));
  out.bootstrap_timeout = c.options.bootstrap_timeout;
  out.transfer_timeout = c.options.transfer_timeout;
  return out;
}

}  // namespace

Result<std::unique_ptr<Context>> LoadContext(ServerOptions options, const StartProgress& progress) {
  LogFlags(options);
  const TimePoint begin = Now();
  auto files = model::ResolveModel(options.model_path);
  if (!files.ok()) return files.status();
  auto kv_dtype = KvDType(options.kv_dtype);
  if (!kv_dtype.ok()) return kv_dtype.status();
  options.engine.kv_dtype = *kv_dtype;
  auto ops = MakeOps(options);
  if (!ops.ok()) return ops.status();

  model::LoadOptions load;
  load.max_tokens = engine::MaxStepTokens(options.engine);
  load.max_logit_rows = options.engine.max_logit_rows;
  load.dummy_weights = options.load_format == "dummy";
  load.progress = [&progress](double fraction) { progress("loading model", fraction); };
  auto model = model::LoadModel(*files, **ops, load);
  if (!model.ok()) return model.status().Prefixed(options.model_path);
  log::info("Load weight end. {} in {:.2f} s, {:.1f} MB, backend {} {} on {} threads", files->path, Seconds(Now() - begin),
            (*model)->weight_bytes() / 1e6, (*ops)->info().name, (*ops)->info().isa, (*ops)->info().threads);

  const model::ModelConfig config = (*model)->config();
  const std::string name = options.served_model_name.empty() ? options.model_path : options.served_model_name;
  const char* type = options.mode == Mode::kNull ? "unified" : options.mode == Mode::kPrefill ? "prefill" : "decode";
  auto context = std::make_unique<Context>(std::move(options), metrics::Labels{
      {"model_name", name}, {"engine_type", type}, {"tp_rank", "0"}, {"pp_rank", "0"}});
  Context& c = *context;
  c.model_name = name;
  c.model_type = config.architecture;
  c.started_at = UnixSeconds();
  c.metrics = AddRequestMetrics(c.registry);
  ModelTextOptions text_options{c.options.tokenizer_path, c.options.chat_template, c.options.skip_tokenizer_init,
                                c.options.sampling_defaults == "model"};
  auto text = LoadModelText(*files, &config, text_options);
  if (!text.ok()) return text.status();
  c.text = std::move(*text);
  auto engine = engine::Engine::Create(std::move(*ops), std::move(*model), c.options.engine);
  if (!engine.ok()) return engine.status();
  c.engine = std::move(*engine);
  AddEngineMetrics(c);
  const engine::EngineOptions& e = c.engine->options();
  log::info("KV Cache is allocated. #tokens: {}, {}, {:.2f} GB", c.engine->stats().max_total_tokens,
            c.engine->kv_layout().ToString(), c.engine->kv_memory().size_bytes / 1e9);
  log::info("max_total_num_tokens={}, chunked_prefill_size={}, max_running_requests={}, context_len={}",
            c.engine->stats().max_total_tokens, e.chunk_tokens, e.max_running, e.context_length);
  return context;
}

Status OpenRole(Context& c, boost::asio::any_io_executor executor, const StartProgress& progress) {
  if (c.options.mode == Mode::kNull) return Status::Ok();
  progress("opening fabric", 0);
  if (c.options.mode == Mode::kPrefill) {
    auto service = disagg::PrefillService::Start(executor, *c.engine, {LinkOf(c), c.options.host, c.options.bootstrap_port});
    if (!service.ok()) return service.status();
    c.prefill = std::move(*service);
    c.prefill->ExportMetrics(c.registry);
    log::info("Bootstrap server on http://{}:{}", c.options.host, c.prefill->bootstrap_port());
  } else {
    auto service = disagg::DecodeService::Start(executor, *c.engine, {LinkOf(c), c.options.bootstrap_port});
    if (!service.ok()) return service.status();
    c.decode = std::move(*service);
    c.decode->ExportMetrics(c.registry);
  }
  if (const size_t counters = transfer::ExportHwCounters(c.registry, c.options.sysfs_root); counters > 0)
    log::info("{} hardware counters of RDMA cards are in /metrics", counters);
  LogTopology(c.options.sysfs_root);
  const transfer::FabricReport& report = c.prefill ? c.prefill->fabric() : c.decode->fabric();
  log::info("KV transfer: {}", report.ToString());
  if (!report.hardware_rdma) {
    log::warn("KV transfer runs over {} WITHOUT hardware RDMA (use --require-rdma to refuse this)", report.provider);
  }
  progress("fabric " + report.provider, 1);
  return Status::Ok();
}

void SetBatchLog(Context& c) {
  // The readers keep what they read alive: the engine's thread outlives the services.
  const auto prefill = c.prefill ? c.prefill->CountsReader() : nullptr;
  const auto decode = c.decode ? c.decode->CountsReader() : nullptr;
  c.engine->SetBatchLog(c.options.decode_log_interval, [prefill, decode](bool is_decode) -> std::string {
    if (is_decode && decode) {
      const auto n = decode();
      return fmt::format("#prealloc-req: {}, #transfer-req: {}", n.prealloc, n.transfer);
    }
    if (!is_decode && prefill) {
      const auto n = prefill();
      return fmt::format("#prealloc-req: {}, #inflight-req: {}", n.bootstrapping, n.inflight);
    }
    return {};
  });
}

}  // namespace baton::server
