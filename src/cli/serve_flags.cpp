#include "cli/serve_flags.h"

#include <cstdlib>
#include <thread>

#include "common/log.h"
#include "transfer/topology/topology.h"

namespace baton::cli {
namespace {

constexpr auto S = FlagKind::kString;
constexpr auto I = FlagKind::kInteger;
constexpr auto N = FlagKind::kNumber;
constexpr auto B = FlagKind::kSwitch;

// An accepted flag of SGLang's that has no meaning for this build.
Flag Inert(std::string_view name, FlagKind kind, std::vector<std::string_view> aliases = {}) {
  return {name, kind, "", "", std::move(aliases), false};
}

std::vector<Flag> MakeFlags() {
  std::vector<Flag> flags = {
      {"model-path", S, "", "GGUF file, folder, or hub id in the local cache (required)", {"model"}},
      {"tokenizer-path", S, "", "folder or tokenizer.json; default: with the model"},
      {"skip-tokenizer-init", B, "", "serve token ids only"},
      {"served-model-name", S, "", "name in /v1/models; default: the model path"},
      {"chat-template", S, "", "Jinja file or text instead of the model's"},
      {"host", S, "127.0.0.1", "address to listen on (bootstrap server too)"},
      {"port", I, "30000", "HTTP port"},
      {"ssl-certfile", S, "", "certificate chain, PEM: the HTTP port speaks https (the bootstrap port does not)"},
      {"ssl-keyfile", S, "", "its key, PEM"},
      {"ssl-keyfile-password", S, "", "password of an encrypted key"},
      {"ssl-ca-certs", S, "", "clients must show a certificate of these authorities, PEM"},
      {"enable-ssl-refresh", B, "", "renewed certificates are used (always on)"},
      {"max-total-payload-size", I, "0", "bytes of request bodies held at once, more get 503; 0: a quarter of the memory"},
      {"api-key", S, "", "clients must send it as Bearer"},
      {"admin-api-key", S, "", "for admin routes; default: the api key"},
      {"config", S, "", "YAML file of flags; the command line wins"},
      {"load-format", S, "auto", "auto reads weights, dummy makes random ones", {}, true, {"auto", "dummy", "gguf", "safetensors"}},
      {"device", S, "cpu", "cpu", {}, true, {"cpu", "auto", "cuda"}},
      {"isa", S, "", "force a CPU kernel set: avx2, avx512, avx512-vnni"},
      {"threads", I, "0", "compute threads; 0: one per core"},
      {"io-threads", I, "1", "threads for HTTP, JSON and tokenizing"},
      {"context-length", I, "", "tokens; default: the model's"},
      {"page-size", I, "16", "tokens per KV page; prefill and decode may differ"},
      {"kv-cache-dtype", S, "auto", "auto, float16, bfloat16 or float32; equal on prefill and decode"},
      {"max-total-tokens", I, "", "KV pool size in tokens"},
      {"kv-memory-mb", I, "1024", "KV pool size when --max-total-tokens is not given"},
      {"max-running-requests", I, "256", "sequences in one decode batch"},
      {"max-queued-requests", I, "4096", "waiting sequences before requests are refused with 503"},
      {"chunked-prefill-size", I, "512", "prompt tokens of one step"},
      {"num-reserved-decode-tokens", I, "512", "KV head-room per running sequence at admission"},
      {"disable-radix-cache", B, "", "no prefix cache"},
      {"schedule-policy", S, "fcfs", "fcfs", {}, true, {"fcfs", "lpm", "random", "dfs-weight", "lof", "priority", "routing-key"}},
      {"random-seed", I, "", "base of the seeds of requests that bring none"},
      {"sampling-defaults", S, "model", "model: generation_config.json; openai: none", {}, true, {"model", "openai"}},
      {"stream-interval", I, "1", "tokens between /generate events"},
      {"stream-output", B, "", "/generate streams only new ids", {"incremental-streaming-output"}},
      {"enable-cache-report", B, "", "usage.prompt_tokens_details.cached_tokens"},
      {"enable-metrics", B, "true", "/metrics (always on)"},
      {"decode-log-interval", I, "40", "decode steps between batch lines in the log"},
      {"log-level", S, "info", "debug, info, warning, error"},
      {"watchdog-timeout", N, "300", "seconds without progress before a request fails"},
      {"drain-timeout", N, "60", "seconds that SIGTERM waits for running requests"},
      {"skip-server-warmup", B, "", "ready without a warm-up request"},
      {"disaggregation-mode", S, "null", "null, prefill or decode", {}, true, {"null", "prefill", "decode"}},
      {"disaggregation-transfer-backend", S, "fabric", "fabric: Baton's own; nixl: NIXL, loaded at run time; mooncake and the others mean fabric here", {}, true,
       {"fabric", "mooncake", "nixl", "ascend", "fake", "mori", "mooncake_tcp"}},
      {"disaggregation-bootstrap-port", I, "8998", "prefill listens here; decode's default for requests without one"},
      {"disaggregation-bootstrap-timeout", N, "30", "seconds one half of a request waits for the other"},
      {"disaggregation-transfer-timeout", N, "120", "seconds from grant to the last byte of KV"},
      {"transfer-provider", S, "auto", "auto, efa, tcp or shm", {}, true, {"auto", "efa", "tcp", "shm"}},
      {"transfer-fabric", S, "auto", "which way of the provider: efa or efa-direct (efa), rxm or native (tcp)", {}, true,
       {"auto", "efa", "efa-direct", "rxm", "native"}},
      {"transfer-write-mode", S, "auto", "write, or read: the target fetches (hardware without RDMA write); both sides must agree", {}, true,
       {"auto", "write", "read"}},
      {"transfer-rails", S, "", "network cards to move KV over, by commas: interfaces or addresses (tcp), domains or devices (efa); "
                                "default: all EFA domains, or the one of --host", {"disaggregation-ib-device"}},
      {"nixl-backend", S, "UCX", "plugin of NIXL: UCX, LIBFABRIC ..."},
      {"nixl-path", S, "", "NIXL's library or a folder around it; else BATON_NIXL_PATH, Python environments and system folders"},
      {"require-rdma", B, "", "refuse to start without hardware RDMA; on by itself where an EFA is on the PCI bus and the data plane "
                             "is not chosen by flag (--no-require-rdma turns it off)"},
      {"sysfs-root", S, "/", "folder that holds the machine's sys/ (a container's mount of it): network cards and their counters"},
      {"kv-checksum", B, "", "decode verifies a CRC-32C of every KV write before it uses the KV (a debugging aid)"},
      {"progress-fd", I, "", "write JSON progress lines to this descriptor (baton up)"},
  };
  for (const char* name : {"tensor-parallel-size", "data-parallel-size", "pipeline-parallel-size", "nnodes", "node-rank"}) {
    flags.push_back(Inert(name, I));
  }
  flags[flags.size() - 5].aliases = {"tp-size"};
  flags[flags.size() - 4].aliases = {"dp-size"};
  flags[flags.size() - 3].aliases = {"pp-size"};
  flags.push_back(Inert("dist-init-addr", S, {"nccl-init-addr"}));
  for (const char* name : {"base-gpu-id", "gpu-id-step", "max-prefill-tokens", "prefill-max-requests", "log-requests-level",
                           "disaggregation-decode-tp", "disaggregation-decode-dp", "disaggregation-prefill-pp",
                           "disaggregation-decode-polling-interval", "disaggregation-decode-extra-slots",
                           "optimistic-prefill-attempts", "cuda-graph-max-bs"}) {
    flags.push_back(Inert(name, I));
  }
  for (const char* name : {"dtype", "quantization", "log-level-http", "reasoning-parser", "tool-call-parser",
                           "load-balance-method", "attention-backend",
                           "disaggregation-decode-retraction-backup", "disaggregation-decode-allocation-policy"}) {
    flags.push_back(Inert(name, S));
  }
  for (const char* name : {"mem-fraction-static", "schedule-conservativeness"}) flags.push_back(Inert(name, N));
  for (const char* name : {"trust-remote-code", "log-requests", "enable-request-time-stats-logging", "enable-dp-attention",
                           "disable-cuda-graph", "disaggregation-decode-enable-offload-kvcache",
                           "disaggregation-decode-enable-radix-cache", "disaggregation-enable-kv-checksum",
                           "enable-pd-role-switch"}) {
    flags.push_back(Inert(name, B));
  }
  return flags;
}

std::chrono::milliseconds SecondsOf(const FlagValues& v, std::string_view flag, const char* variable = nullptr) {
  double seconds = v.Number(flag);
  if (const char* text = variable && !v.Given(flag) ? std::getenv(variable) : nullptr) seconds = std::atof(text);
  return std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000));
}

// "a,b": a and b.
std::vector<std::string> Names(const std::string& list) {
  std::vector<std::string> names;
  for (size_t at = 0; at <= list.size();) {
    const size_t end = std::min(list.find(',', at), list.size());
    if (end > at) names.push_back(list.substr(at, end - at));
    at = end + 1;
  }
  return names;
}

// --disaggregation-transfer-backend nixl and the flags that belong to it.
Status ChooseNixl(const FlagValues& v, server::ServerOptions& o) {
  if (o.transfer_backend != "nixl") {
    for (const char* name : {"nixl-backend", "nixl-path"}) {
      if (v.Given(name)) return Error(Code::kInvalidArgument, "--{} needs --disaggregation-transfer-backend nixl", name);
    }
    return Status::Ok();
  }
  if (o.fabric.provider != transfer::ProviderKind::kAuto) {
    return Error(Code::kInvalidArgument, "--transfer-provider {} chooses Baton's own data plane, --disaggregation-transfer-backend "
                 "nixl another: give one of them", v.Text("transfer-provider"));
  }
  o.fabric.provider = transfer::ProviderKind::kNixl;
  o.fabric.nixl = {.backend = v.Text("nixl-backend"), .path = v.Text("nixl-path")};
  return Status::Ok();
}

// No silent fallback: where there is an EFA, tcp must be asked for.
bool RequireRdma(const FlagValues& v, const server::ServerOptions& o) {
  if (v.Given("require-rdma")) return v.On("require-rdma");
  if (o.mode == server::Mode::kNull || o.fabric.provider != transfer::ProviderKind::kAuto) return false;
  const auto topology = transfer::ReadSysfsTopology(o.sysfs_root);
  if (!topology.ok() || !transfer::HasEfa(*topology)) return false;
  log::info("This machine has EFA devices: hardware RDMA is required. To serve without it, give --no-require-rdma or "
            "--transfer-provider tcp");
  return true;
}

Status CheckRange(const FlagValues& v, std::string_view name, int64_t low, int64_t high) {
  if (!v.Has(name)) return Status::Ok();
  const int64_t n = v.Integer(name);
  if (n >= low && n <= high) return Status::Ok();
  return Error(Code::kInvalidArgument, "--{} must be from {} to {}, found {}", name, low, high, n);
}

Status CheckRanges(const FlagValues& v) {
  struct Row { const char* name; int64_t low, high; };
  for (const Row& row : {Row{"port", 0, 65535}, Row{"disaggregation-bootstrap-port", 0, 65535}, Row{"threads", 0, 1024},
                         Row{"io-threads", 1, 64}, Row{"max-total-payload-size", 0, INT64_MAX}, Row{"context-length", 2, 1 << 24}, Row{"page-size", 1, 1024},
                         Row{"max-total-tokens", 32, INT32_MAX}, Row{"kv-memory-mb", 1, int64_t{1} << 24},
                         Row{"max-running-requests", 1, 65536}, Row{"max-queued-requests", 1, 1 << 24},
                         Row{"chunked-prefill-size", -1, 1 << 20}, Row{"num-reserved-decode-tokens", 0, 1 << 20},
                         Row{"stream-interval", 1, 1 << 20}, Row{"decode-log-interval", 1, 1 << 30},
                         Row{"tensor-parallel-size", 1, 1}, Row{"data-parallel-size", 1, 1},
                         Row{"pipeline-parallel-size", 1, 1}, Row{"nnodes", 1, 1}}) {
    if (Status s = CheckRange(v, row.name, row.low, row.high); !s.ok()) {
      return row.high == 1 && row.low == 1 ? s.Prefixed("this build serves one rank") : s;
    }
  }
  return Status::Ok();
}

void FillEngine(const FlagValues& v, engine::EngineOptions& e) {
  e.page_tokens = static_cast<int>(v.Integer("page-size"));
  e.context_length = static_cast<int>(v.Integer("context-length"));
  e.max_total_tokens = static_cast<int>(v.Integer("max-total-tokens"));
  e.kv_memory_bytes = static_cast<size_t>(v.Integer("kv-memory-mb")) << 20;
  e.max_running = static_cast<int>(v.Integer("max-running-requests"));
  e.max_queued = static_cast<int>(v.Integer("max-queued-requests"));
  const int chunk = static_cast<int>(v.Integer("chunked-prefill-size"));
  e.chunk_tokens = chunk < 0 ? 4096 : std::max(chunk, e.page_tokens) / e.page_tokens * e.page_tokens;
  e.max_logit_rows = std::max(e.max_running, 128);
  e.reserved_decode_tokens = static_cast<int>(v.Integer("num-reserved-decode-tokens"));
  e.prefix_cache = !v.On("disable-radix-cache");
}

}  // namespace

const std::vector<Flag>& ServeFlags() {
  static const std::vector<Flag> flags = MakeFlags();
  return flags;
}

Result<server::ServerOptions> MakeServerOptions(const FlagValues& v) {
  if (!v.Has("model-path")) return Error(Code::kInvalidArgument, "--model-path is required: a GGUF file, a folder or a hub id");
  if (Status s = CheckRanges(v); !s.ok()) return s;
  server::ServerOptions o;
  o.model_path = v.Text("model-path");
  o.tokenizer_path = v.Text("tokenizer-path");
  o.served_model_name = v.Text("served-model-name");
  o.chat_template = v.Text("chat-template");
  o.skip_tokenizer_init = v.On("skip-tokenizer-init");
  o.host = v.Text("host");
  o.port = static_cast<uint16_t>(v.Integer("port"));
  o.tls.cert_file = v.Text("ssl-certfile");
  o.tls.key_file = v.Text("ssl-keyfile");
  o.tls.key_password = v.Text("ssl-keyfile-password");
  if (v.Given("ssl-ca-certs")) o.tls.client_ca_files = {v.Text("ssl-ca-certs")};
  if (o.tls.cert_file.empty() != o.tls.key_file.empty() || (!o.tls.enabled() && v.Given("ssl-ca-certs"))) {
    return Error(Code::kInvalidArgument, "--ssl-certfile and --ssl-keyfile go together, and --ssl-ca-certs needs them");
  }
  if (o.tls.enabled()) {
    if (Status s = http::CheckTls(o.tls); !s.ok()) return s.Prefixed("--ssl-certfile");
  }
  o.max_held_body_bytes = static_cast<size_t>(v.Integer("max-total-payload-size"));
  o.api_key = v.Text("api-key");
  o.admin_api_key = v.Text("admin-api-key");
  const std::string mode = v.Text("disaggregation-mode");
  o.mode = mode == "prefill" ? server::Mode::kPrefill : mode == "decode" ? server::Mode::kDecode : server::Mode::kNull;
  o.bootstrap_port = static_cast<uint16_t>(v.Integer("disaggregation-bootstrap-port"));
  o.transfer_backend = v.Text("disaggregation-transfer-backend");
  auto provider = transfer::ParseProvider(v.Text("transfer-provider"));
  if (!provider.ok()) return provider.status();
  o.fabric.provider = *provider;
  o.fabric.fabric = v.Text("transfer-fabric");
  auto write_mode = transfer::ParseWriteMode(v.Text("transfer-write-mode"));
  if (!write_mode.ok()) return write_mode.status();
  o.fabric.write_mode = *write_mode;
  o.fabric.host = o.host;
  o.sysfs_root = v.Text("sysfs-root");
  o.fabric.rails = Names(v.Text("transfer-rails"));
  o.fabric.checksum = v.On("kv-checksum");
  if (Status s = ChooseNixl(v, o); !s.ok()) return s;
  o.fabric.require_rdma = RequireRdma(v, o);
  o.bootstrap_timeout = SecondsOf(v, "disaggregation-bootstrap-timeout", "SGLANG_DISAGGREGATION_BOOTSTRAP_TIMEOUT");
  o.transfer_timeout = SecondsOf(v, "disaggregation-transfer-timeout", "SGLANG_DISAGGREGATION_WAITING_TIMEOUT");
  o.load_format = v.Text("load-format");
  o.device = v.Text("device");
  o.isa = v.Text("isa");
  o.threads = static_cast<int>(v.Integer("threads"));
  o.io_threads = static_cast<int>(v.Integer("io-threads"));
  FillEngine(v, o.engine);
  o.engine.shared_kv = o.mode != server::Mode::kNull && o.fabric.provider == transfer::ProviderKind::kShm;
  o.kv_dtype = v.Text("kv-cache-dtype");
  o.sampling_defaults = v.Text("sampling-defaults");
  o.enable_cache_report = v.On("enable-cache-report");
  o.stream_output = v.On("stream-output");
  o.stream_interval = static_cast<int>(v.Integer("stream-interval"));
  o.decode_log_interval = static_cast<int>(v.Integer("decode-log-interval"));
  o.watchdog = SecondsOf(v, "watchdog-timeout");
  o.drain_timeout = SecondsOf(v, "drain-timeout");
  o.skip_warmup = v.On("skip-server-warmup");
  o.random_seed = static_cast<uint64_t>(v.Integer("random-seed"));
  o.all_flags = v.ToJson(ServeFlags());
  for (const char* secret : {"api_key", "admin_api_key", "ssl_keyfile_password"}) {  // they end up in the log and in /server_info
    if (!o.all_flags[secret].is_null()) o.all_flags[secret] = "***";
  }
  for (const Flag& flag : ServeFlags()) {
    if (!flag.applies && v.Given(flag.name)) log::warn("--{} has no effect in this build", flag.name);
  }
  if (o.transfer_backend != "fabric" && o.transfer_backend != "nixl" && o.mode != server::Mode::kNull) {
    log::warn("--disaggregation-transfer-backend {}: KV moves over Baton's own libfabric data plane", o.transfer_backend);
  }
  return o;
}

}  // namespace baton::cli
