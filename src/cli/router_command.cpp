#include "cli/router_command.h"

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <functional>
#include <memory>
#include <optional>
#include <thread>

#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>

#include "cli/discovery_flags.h"
#include "cli/flag_suggestion.h"
#include "cli/router_config.h"
#include "cli/router_reload.h"
#include "cli/web_page.h"
#include "common/file_limit.h"
#include "common/log.h"
#include "common/log_file.h"
#include "http/event_loops.h"
#include "router/router.h"

namespace baton::cli {
namespace {

// A flag of sglang-router that says nothing to this router: accepted, so that command lines carry
// over, and named in the log when it is given. Some are refused: who sets up access control must not
// believe that it is there.
struct UnusedFlag {
  const CLI::Option* option = nullptr;
  std::string why;
  bool refused = false;
  std::string Name() const { return "--" + option->get_lnames().at(0); }
};

// Flags whose type is not the option's.
struct RouterFlags {
  router::RouterOptions options;
  std::vector<std::string> prefill;
  std::string policy = "cache_aware", prefill_policy, decode_policy, assignment = "random";
  double max_idle_s = 14'400, bucket_interval_s = 5, load_poll_s = 1;
  double queue_timeout_s = 60;
  int64_t queue_size = 100;
  std::vector<UnusedFlag> unused;
  double request_timeout_s = 1800, first_byte_timeout_s = 600, stream_idle_timeout_s = 300;
  double drain_delay_s = 0, grace_s = 180, connect_timeout_ms = 2000;
  double initial_backoff_ms = 50, max_backoff_ms = 30'000;
  double worker_wait_s = 3;
  double cb_timeout_s = 60, cb_window_s = 120;
  double check_interval_s = 1, check_timeout_s = 5;
  std::vector<std::string> control_keys;
  std::string log_dir;
  bool disable_retries = false, disable_breaker = false, disable_health_check = false;
  std::string log_level = "info";
  std::string config;
  DiscoveryFlags discovery;
  unsigned threads = std::clamp(std::thread::hardware_concurrency(), 1u, 8u);
};

std::chrono::milliseconds Millis(double ms) { return std::chrono::milliseconds(static_cast<int64_t>(ms)); }

Status ReadPolicies(const RouterFlags& flags, router::RouterOptions* o) {
  const auto parse = [&](const char* flag, const std::string& own, router::PolicyKind* out) {
    const auto kind = router::ParsePolicy(own.empty() ? flags.policy : own);
    if (kind.ok()) *out = *kind;
    return kind.status().Prefixed(own.empty() ? "--policy" : flag);
  };
  const auto assignment = router::ParseAssignment(flags.assignment);
  if (!assignment.ok()) return assignment.status().Prefixed("--assignment-mode");
  o->policy.assignment = *assignment;
  o->policy.max_idle = Millis(flags.max_idle_s * 1000);
  o->policy.bucket_interval = Millis(flags.bucket_interval_s * 1000);
  o->load_poll_interval = Millis(flags.load_poll_s * 1000);
  if (Status s = parse("--prefill-policy", flags.prefill_policy, &o->prefill_policy); !s.ok()) return s;
  return parse("--decode-policy", flags.decode_policy, &o->decode_policy);
}

Result<router::RouterOptions> ToOptions(RouterFlags& flags) {
  router::RouterOptions o = flags.options;
  if (Status s = ReadPrefillUrls(flags.prefill, &o.prefill); !s.ok()) return s;
  if (Status s = ReadPolicies(flags, &o); !s.ok()) return s;
  auto discovery = ToDiscoveryOptions(flags.discovery);
  if (!discovery.ok()) return discovery.status();
  o.discovery = std::move(*discovery);
  if (flags.queue_size < 0) {
    return Error(Code::kInvalidArgument, "--queue-size must not be negative; 0 means no queue");
  }
  o.admission.queue_size = static_cast<size_t>(flags.queue_size);
  o.admission.queue_timeout = Millis(flags.queue_timeout_s * 1000);
  o.request_timeout = Millis(flags.request_timeout_s * 1000);
  o.first_byte_timeout = Millis(flags.first_byte_timeout_s * 1000);
  o.stream_idle_timeout = Millis(flags.stream_idle_timeout_s * 1000);
  o.shutdown_grace = Millis(flags.grace_s * 1000);
  o.connect_timeout = Millis(flags.connect_timeout_ms);
  o.retry.initial_backoff = Millis(flags.initial_backoff_ms);
  o.retry.max_backoff = Millis(flags.max_backoff_ms);
  if (flags.disable_retries) o.retry.max_attempts = 1;
  o.migration.worker_wait = Millis(flags.worker_wait_s * 1000);
  o.breaker.open_time = Millis(flags.cb_timeout_s * 1000);
  o.breaker.window = Millis(flags.cb_window_s * 1000);
  o.breaker.enabled = !flags.disable_breaker;
  o.health.interval = Millis(flags.check_interval_s * 1000);
  o.health.timeout = Millis(flags.check_timeout_s * 1000);
  o.health.enabled = !flags.disable_health_check;
  for (const std::string& text : flags.control_keys) {
    auto key = router::ParseControlKey(text);
    if (!key.ok()) return key.status();
    o.control_keys.push_back(std::move(*key));
  }
  if (!flags.log_dir.empty() && o.access_log.empty()) o.access_log = flags.log_dir + "/access.log";
  if (o.access_log == "off") o.access_log.clear();
  if (Status s = router::Validate(o); !s.ok()) return s;
  return o;
}

// Ends the process: withdraw at the first signal, drain after the delay, then stop when the last request is done, the grace
// period is over or a second signal comes.
class Shutdown {
 public:
  // Readiness ends at once, the listener `delay` later; `stop` ends the process's loops.
  Shutdown(boost::asio::io_context& io, router::Router& router, Duration delay, Duration grace, std::function<void()> stop)
      : stop_(std::move(stop)), router_(router), delay_(delay), grace_(grace), signals_(io, SIGINT, SIGTERM), timer_(io) {
    signals_.async_wait([this](const boost::system::error_code& ec, int) {
      if (!ec) Begin();
    });
  }

 private:
  void Begin() {
    log::info("Draining: {} requests in progress", router_.OpenRequests());
    router_.Withdraw();
    signals_.async_wait([this](const boost::system::error_code& ec, int) {
      if (!ec) Finish();
    });
    timer_.expires_after(delay_);
    timer_.async_wait([this](const boost::system::error_code& ec) {
      if (ec) return;
      router_.Drain();
      deadline_ = Now() + grace_;
      Look();
    });
  }
  void Look() {
    if (router_.OpenRequests() == 0 || Now() >= deadline_) return Finish();
    timer_.expires_after(std::chrono::milliseconds(20));
    timer_.async_wait([this](const boost::system::error_code& ec) {
      if (!ec) Look();
    });
  }
  void Finish() {
    router_.Stop();
    stop_();
  }

  const std::function<void()> stop_;
  router::Router& router_;
  const Duration delay_;
  const Duration grace_;
  boost::asio::signal_set signals_;
  boost::asio::steady_timer timer_;
  TimePoint deadline_{};
};

// SIGUSR1: log files are opened again.
class ReopenOnSignal {
 public:
  ReopenOnSignal(boost::asio::io_context& io, router::Router& router) : router_(router), signals_(io, SIGUSR1) { Wait(); }

 private:
  void Wait() {
    signals_.async_wait([this](const boost::system::error_code& ec, int) {
      if (ec) return;
      router_.ReopenLogs();
      Wait();
    });
  }
  router::Router& router_;
  boost::asio::signal_set signals_;
};

int RunRouter(CLI::App& command, RouterFlags& flags) {
  std::optional<RouterConfig> config;
  if (!flags.config.empty()) {
    auto loaded = RouterConfig::Load(command, flags.config);
    if (!loaded.ok()) {
      fmt::print(stderr, "baton router: {}\n", loaded.status().message());
      return 2;
    }
    config.emplace(std::move(*loaded));
  }
  log::Init(flags.log_level, "router");
  if (!flags.log_dir.empty()) {
    if (Status s = log::AddFile(flags.log_dir + "/smg.log"); !s.ok()) {
      fmt::print(stderr, "baton router: --log-dir: {}\n", s.message());
      return 2;
    }
  }
  auto options = ToOptions(flags);
  if (!options.ok()) {
    fmt::print(stderr, "baton router: {}\n", options.status().message());
    return 2;
  }
  for (const UnusedFlag& flag : flags.unused) {
    if (flag.option->count() == 0) continue;
    if (flag.refused) {
      fmt::print(stderr, "baton router: {} is not supported: {}\n", flag.Name(), flag.why);
      return 2;
    }
    log::warn("{} has no effect: {}", flag.Name(), flag.why);
  }
  const Duration grace = options->shutdown_grace;
  if (const uint64_t files = RaiseFileLimit(); files < 4096)
    log::warn("{} open files are allowed (ulimit -n), enough for some {} streams at once", files, files / 3);
  options->index_html = web::kChatPage;
  http::EventLoops loops(flags.threads);
  auto router = router::Router::Start(loops.main().get_executor(), std::move(*options), loops.executors());
  if (!router.ok()) {
    fmt::print(stderr, "baton router: {}\n", router.status().message());
    return router.status().code() == Code::kUnavailable ? 1 : 2;
  }
  const Shutdown shutdown(loops.main(), **router, Millis(flags.drain_delay_s * 1000), grace, [&loops] { loops.Stop(); });
  RouterReload reload(loops.main(), **router, {flags.prefill, flags.options.decode, flags.options.worker_urls}, std::move(config));
  const ReopenOnSignal reopen(loops.main(), **router);
  loops.Run();
  return 0;
}

void AddPlaces(CLI::App& c, RouterFlags& f) {
  auto& o = f.options;
  c.add_option("--host", o.host, "Address to listen on")->capture_default_str();
  c.add_option("--port", o.port, "Port to listen on; 0 picks one")->capture_default_str();
  c.add_flag("--pd-disaggregation", o.pd_disaggregation, "Prefill and decode on separate workers");
  c.add_option("--prefill", f.prefill, "URL [BOOTSTRAP_PORT|none] of a prefill worker; repeatable")->type_name("URL [PORT]");
  c.add_option("--decode", o.decode, "URL of a decode worker; repeatable")->type_name("URL");
  c.add_option("--worker-urls", o.worker_urls, "URLs of workers, regular mode")->type_name("URL...");
  c.add_option("--policy", f.policy,
               "cache_aware, random, round_robin, power_of_two, least_load, prefix_hash, consistent_hashing, manual or bucket")
      ->capture_default_str();
  c.add_option("--prefill-policy", f.prefill_policy, "Policy for prefill workers; default: --policy");
  c.add_option("--decode-policy", f.decode_policy, "Policy for decode workers; default: --policy");
  c.add_flag("--dp-aware", o.dp_aware, "Choose among the data-parallel ranks of a worker, each a worker URL@rank");
  c.add_option("--threads", f.threads, "I/O threads")->capture_default_str();
}

void AddPolicies(CLI::App& c, RouterFlags& f) {
  auto& p = f.options.policy;
  c.add_option("--cache-threshold", p.cache_threshold, "cache_aware: share of the prompt that a match must cover")->capture_default_str();
  c.add_option("--balance-abs-threshold", p.balance_abs, "Out of balance when in-flight requests differ by more than this ...")->capture_default_str();
  c.add_option("--balance-rel-threshold", p.balance_rel, "... and by more than this factor")->capture_default_str();
  c.add_option("--max-tree-size", p.max_tree_bytes, "cache_aware: bytes of text remembered per worker")->capture_default_str();
  c.add_option("--prefix-hash-bytes", p.prefix_bytes, "prefix_hash: bytes of the prompt that choose the worker")->capture_default_str();
  c.add_option("--prefix-hash-load-factor", p.hash_load_factor, "Hashing policies: most load, as a multiple of the mean")->capture_default_str();
  c.add_option("--max-idle-secs", f.max_idle_s, "manual: a routing key is forgotten after this time")->capture_default_str();
  c.add_option("--assignment-mode", f.assignment, "manual: a new key gets a worker by random, min_load or min_group")->capture_default_str();
  c.add_option("--bucket-adjust-interval-secs", f.bucket_interval_s, "bucket: time between adjustments")->capture_default_str();
  c.add_option("--load-poll-interval-secs", f.load_poll_s, "How often workers are asked for their load; 0: never")->capture_default_str();
}

void AddAdmission(CLI::App& c, RouterFlags& f) {
  auto& o = f.options;
  c.add_option("--max-concurrent-requests", o.admission.max_concurrent, "Requests at once, streams included; -1: no cap")->capture_default_str();
  c.add_option("--queue-size", f.queue_size, "Requests that may wait for a place; more get 429")->capture_default_str();
  c.add_option("--queue-timeout-secs", f.queue_timeout_s, "Longest wait for a place (408)")->capture_default_str();
  c.add_option("--rate-limit-tokens-per-second", o.admission.rate_per_second, "Requests admitted per second; 0: no limit")->capture_default_str();
  c.add_flag("--fair-queue", o.admission.fair, "Tenants take turns in the queue, whatever each has waiting");
  c.add_option("--tenant-header", o.tenant_header, "Header that tells the tenants apart")->capture_default_str();
  c.add_option("--worker-queue-limit", o.worker_queue_limit, "Hold requests while every worker reports this many waiting; 0: off")->capture_default_str();
  c.add_option("--worker-kv-limit", o.worker_kv_limit, "Hold requests while every worker uses this share of its KV; 0: off")->capture_default_str();
}

// Flags of sglang-router 0.3.2 without a meaning here.
void AddUnused(CLI::App& c, RouterFlags& f) {
  bool refused = false;
  const auto add = [&](const char* why, std::initializer_list<const char*> values,
                       std::initializer_list<const char*> switches) {
    for (const char* name : values) {
      f.unused.push_back({c.add_option_function<std::vector<std::string>>(name, [](const auto&) {}, "No effect")->group(""), why, refused});
    }
    for (const char* name : switches) {
      f.unused.push_back({c.add_flag_function(name, [](int64_t) {}, "No effect")->group(""), why, refused});
    }
  };
  add("the tree is kept within --max-tree-size at every moment", {"--eviction-interval-secs", "--eviction-interval"}, {});
  add("workers are probed every 300 ms until they are ready, for as long as it takes",
      {"--worker-startup-timeout-secs", "--worker-startup-check-interval"}, {});
  add("requests pass through as text; tokens and templates are the workers' business",
      {"--model-path", "--tokenizer-path", "--chat-template", "--tokenizer-cache-l0-max-entries",
       "--tokenizer-cache-l1-max-memory", "--reasoning-parser", "--tool-call-parser", "--mcp-config-path"},
      {"--tokenizer-cache-enable-l0", "--tokenizer-cache-enable-l1"});
  add("there is one router mode; the policies choose among all workers of a role", {}, {"--mini-lb", "--enable-igw"});
  add("conversations are not stored", {"--history-backend", "--oracle-wallet-path", "--oracle-tns-alias",
      "--oracle-connect-descriptor", "--oracle-username", "--oracle-password", "--oracle-pool-min",
      "--oracle-pool-max", "--oracle-pool-timeout-secs", "--postgres-db-url", "--postgres-pool-max",
      "--redis-url", "--redis-pool-max", "--redis-retention-days"}, {});
  add("workers speak SGLang's protocol", {"--backend"}, {});
  add("traceparent and tracestate are passed on; spans are not exported", {"--otlp-traces-endpoint"}, {"--enable-trace"});
  refused = true;
  add("admin routes take --control-plane-api-keys or --api-key", {"--jwt-issuer", "--jwt-audience",
      "--jwt-jwks-uri", "--jwt-role-mapping"}, {"--control-plane-audit-enabled"});
}

void AddLimits(CLI::App& c, RouterFlags& f) {
  auto& o = f.options;
  c.add_option("--max-payload-size", o.max_payload_bytes, "Largest request body, bytes (413)")->capture_default_str();
  c.add_option("--max-total-payload-size", o.max_total_payload_bytes,
               "Bytes of the bodies of all requests under way, more get 503; 0: a quarter of the memory")->capture_default_str();
  c.add_option("--request-timeout-secs", f.request_timeout_s, "Whole request that is not streamed")->capture_default_str();
  c.add_option("--first-byte-timeout-secs", f.first_byte_timeout_s, "First event of a stream")->capture_default_str();
  c.add_option("--stream-idle-timeout-secs", f.stream_idle_timeout_s, "Silence of a stream under way")->capture_default_str();
  c.add_option("--connect-timeout-ms", f.connect_timeout_ms, "Connecting to a worker")->capture_default_str();
  c.add_option("--drain-delay-secs", f.drain_delay_s, "After SIGTERM serve on for this long with readiness at 503, so that load balancers notice")->capture_default_str();
  c.add_option("--shutdown-grace-period-secs", f.grace_s, "Running requests may finish for this long")->capture_default_str();
}

void AddResilience(CLI::App& c, RouterFlags& f) {
  auto& o = f.options;
  c.add_option("--retry-max-retries", o.retry.max_attempts, "Attempts in total, the first one included")->capture_default_str();
  c.add_option("--retry-initial-backoff-ms", f.initial_backoff_ms, "Delay before the second attempt")->capture_default_str();
  c.add_option("--retry-max-backoff-ms", f.max_backoff_ms, "Longest delay")->capture_default_str();
  c.add_option("--retry-backoff-multiplier", o.retry.multiplier, "Growth of the delay")->capture_default_str();
  c.add_option("--retry-jitter-factor", o.retry.jitter, "Random share of the delay")->capture_default_str();
  c.add_flag("--disable-retries", f.disable_retries, "One attempt only");
  c.add_option("--max-migrations", o.migration.max_migrations, "How often a stream may go on at another pair after its first byte; 0: never")->capture_default_str();
  c.add_option("--max-worker-kills", o.migration.max_worker_kills, "A request that was on this many workers when they died is not tried again")->capture_default_str();
  c.add_option("--worker-wait-secs", f.worker_wait_s, "Wait for a worker when none can take a request")->capture_default_str();
  c.add_option("--cb-failure-threshold", o.breaker.failure_threshold, "Failures in a row that open a breaker")->capture_default_str();
  c.add_option("--cb-success-threshold", o.breaker.success_threshold, "Successes that close it")->capture_default_str();
  c.add_option("--cb-timeout-duration-secs", f.cb_timeout_s, "Time until it is tried again")->capture_default_str();
  c.add_option("--cb-window-duration-secs", f.cb_window_s, "Older failures do not count")->capture_default_str();
  c.add_flag("--disable-circuit-breaker", f.disable_breaker, "No breakers");
  c.add_option("--health-failure-threshold", o.health.failure_threshold, "Missed checks until a worker is out")->capture_default_str();
  c.add_option("--health-success-threshold", o.health.success_threshold, "Good checks until it is back")->capture_default_str();
  c.add_option("--health-check-interval-secs", f.check_interval_s, "Time between checks")->capture_default_str();
  c.add_option("--health-check-timeout-secs", f.check_timeout_s, "Longest wait for one check")->capture_default_str();
  c.add_option("--health-check-endpoint", o.health.endpoint, "Path of the check")->capture_default_str();
  c.add_flag("--disable-health-check", f.disable_health_check, "Take every worker as healthy");
}

void AddOperation(CLI::App& c, RouterFlags& f) {
  auto& o = f.options;
  c.add_option("--api-key", o.api_key, "Key that clients must send as Bearer; workers get it too");
  c.add_option("--control-plane-api-keys", f.control_keys, "Keys for the admin routes; role is admin or user")->type_name("ID:NAME:ROLE:KEY...");
  c.add_option("--tls-cert-path", o.tls.cert_file, "Certificate chain of this router, PEM: serves https")->type_name("FILE");
  c.add_option("--tls-key-path", o.tls.key_file, "Its key, PEM")->type_name("FILE");
  c.add_option("--tls-client-ca-paths", o.tls.client_ca_files, "Clients must show a certificate of these authorities")->type_name("FILE...");
  c.add_option("--ca-cert-paths", o.worker_tls.ca_files, "Authorities of https workers; default: the system's")->type_name("FILE...");
  c.add_option("--client-cert-path", o.worker_tls.cert_file, "Certificate shown to https workers")->type_name("FILE");
  c.add_option("--client-key-path", o.worker_tls.key_file, "Its key")->type_name("FILE");
  c.add_option("--cors-allowed-origins", o.cors_origins, "Pages that may call: by default all, and control routes only those named here")->type_name("ORIGIN...");
  c.add_option("--access-log", o.access_log, "A JSON line per request to FILE, - (stdout) or off; default: with --log-dir access.log there, else off")->type_name("FILE");
  c.add_option("--log-dir", f.log_dir, "Folder for smg.log (the log, beside stderr) and access.log");
  c.add_option("--request-id-headers", o.request_id_headers, "Headers that may carry a request id")->capture_default_str();
  c.add_option("--prometheus-port", o.prometheus_port, "Port of /metrics; -1: main port only")->capture_default_str();
  c.add_option("--prometheus-host", o.prometheus_host, "Address of /metrics")->capture_default_str();
  c.add_option("--prometheus-duration-buckets", o.duration_buckets, "Bounds of the duration histograms, seconds")->type_name("SECONDS...");
  c.add_option("--config", f.config, "File of flags, key: value; the command line wins. SIGHUP reads its workers and log-level anew")->type_name("FILE");
  c.add_option("--log-level", f.log_level, "debug, info, warning or error")->capture_default_str();
}

}  // namespace

void AddRouterCommand(CLI::App& app, int* exit_code) {
  const auto flags = std::make_shared<RouterFlags>();
  CLI::App* const command = app.add_subcommand("router", "Routes requests to prefill and decode servers");
  command->allow_extras();  // so that an unknown flag gets a suggestion
  AddPlaces(*command, *flags);
  AddDiscoveryFlags(*command, flags->discovery);
  AddPolicies(*command, *flags);
  AddAdmission(*command, *flags);
  AddUnused(*command, *flags);
  AddLimits(*command, *flags);
  AddResilience(*command, *flags);
  AddOperation(*command, *flags);
  command->callback([flags, command, exit_code] {
    if (const std::string unknown = UnknownArgumentMessage(*command); !unknown.empty()) {
      fmt::print(stderr, "baton router: {}\n", unknown);
      *exit_code = 2;
      return;
    }
    *exit_code = RunRouter(*command, *flags);
  });
}

}  // namespace baton::cli
