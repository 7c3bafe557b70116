// Every setting of the router, as plain values. Names and meanings follow sglang-router's flags
// (specs/sglang-pd-protocol.md 1.2); a default that differs says why. cli/router_command.cpp binds
// the flags.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/clock.h"
#include "common/status.h"
#include "http/tls.h"
#include "router/admission_queue.h"
#include "router/breaker.h"
#include "router/discovery/options.h"
#include "router/migration_rules.h"
#include "router/policy.h"

namespace baton::router {

struct PrefillUrl {
  std::string url;
  // Absent: what the worker publishes in /server_info, else null in the request.
  std::optional<uint16_t> bootstrap_port;
};

struct RetryRules {
  int max_attempts = 5;  // in total, not extra (--retry-max-retries counts this way)
  std::chrono::milliseconds initial_backoff{50};
  std::chrono::milliseconds max_backoff{30'000};
  double multiplier = 1.5;
  double jitter = 0.2;  // share of the delay, either way
};

struct HealthRules {
  bool enabled = true;
  std::string endpoint = "/health";
  // sglang-router: 60 s, 3 failures, 2 successes, so that a dead worker is used for minutes.
  std::chrono::milliseconds interval{1'000};
  std::chrono::milliseconds timeout{5'000};
  int failure_threshold = 2;
  int success_threshold = 1;
};

// A key for the admin routes, with who it belongs to.
struct ControlKey {
  std::string id, name;
  bool admin = false;  // else a user, who may not
  std::string key;
};
// "id:name:role:key", role admin or user; the key may hold colons.
Result<ControlKey> ParseControlKey(std::string_view text);

struct RouterOptions {
  std::string host = "0.0.0.0";
  uint16_t port = 30'000;  // 0 picks a free one
  http::ServerTlsOptions tls;      // of the main listener
  http::TlsOptions worker_tls;     // towards https:// workers, probes included
  std::vector<std::string> cors_origins;  // pages that may call; empty: all

  bool pd_disaggregation = false;
  std::vector<PrefillUrl> prefill;
  std::vector<std::string> decode;
  std::vector<std::string> worker_urls;  // regular mode
  DiscoveryOptions discovery;            // workers from elsewhere, beside these
  bool dp_aware = false;  // each data-parallel rank of a worker is a worker of its own, URL@rank

  PolicyKind prefill_policy = PolicyKind::kCacheAware;
  PolicyKind decode_policy = PolicyKind::kCacheAware;  // of regular workers too
  PolicyRules policy;
  // How often workers are asked for their load; 0: never. sglang-router asks every 30 s, and only
  // for power_of_two.
  std::chrono::milliseconds load_poll_interval{1'000};

  AdmissionRules admission;
  std::string tenant_header = "authorization";  // who a request counts for when the queue is fair
  // New requests wait, or get 503, while every worker of a role reports this many waiting requests,
  // or this share of its KV in use; 0: no such limit.
  int64_t worker_queue_limit = 0;
  double worker_kv_limit = 0;

  size_t max_payload_bytes = size_t{512} << 20;
  size_t max_total_payload_bytes = 0;  // of all requests under way; 0: a quarter of the memory
  RetryRules retry;
  BreakerRules breaker;
  MigrationRules migration;
  HealthRules health;

  std::chrono::milliseconds connect_timeout{2'000};
  // Whole request when it is not streamed. sglang-router cuts long streams by it too; here a
  // stream is bounded by the two below.
  std::chrono::milliseconds request_timeout{1'800'000};
  std::chrono::milliseconds first_byte_timeout{600'000};
  std::chrono::milliseconds stream_idle_timeout{300'000};  // silence of a stream under way
  std::chrono::milliseconds shutdown_grace{180'000};

  std::string api_key;  // clients must send it; probes carry it
  // With any, the admin routes want the key of an admin instead of api_key.
  std::vector<ControlKey> control_keys;
  std::vector<std::string> request_id_headers = {"x-request-id", "x-correlation-id", "x-trace-id",
                                                 "request-id"};

  std::vector<double> duration_buckets;  // seconds, ascending; empty: sglang-router's

  int prometheus_port = 29'000;  // -1: no listener of its own; 0 picks a free port
  std::string prometheus_host = "0.0.0.0";

  std::string access_log;  // a line per request to this file; "-": stdout; empty: none

  // Page served at "/"; must outlive the router. Empty: 404.
  std::string_view index_html;
};

// kInvalidArgument names the flag and the way out: no or doubled URLs, PD flags without
// --pd-disaggregation, numbers out of range.
Status Validate(const RouterOptions& options);

}  // namespace baton::router
