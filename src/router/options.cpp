#include "router/options.h"

#include <algorithm>
#include <array>
#include <functional>
#include <set>

#include "http/client.h"

namespace baton::router {
namespace {

Status CheckUrl(std::string_view flag, const std::string& url, std::set<std::string>& seen) {
  const auto origin = http::ParseOrigin(url);
  if (!origin.ok()) return origin.status().Prefixed(fmt::format("{} {}", flag, url));
  if (!seen.insert(origin->ToString()).second) {
    return Error(Code::kInvalidArgument, "{} {}: given twice", flag, url);
  }
  return Status::Ok();
}

Status CheckUrls(const RouterOptions& o) {
  std::set<std::string> prefill, decode, regular;
  for (const PrefillUrl& p : o.prefill) {
    if (Status s = CheckUrl("--prefill", p.url, prefill); !s.ok()) return s;
    if (p.bootstrap_port && *p.bootstrap_port == 0) {
      return Error(Code::kInvalidArgument, "--prefill {}: bootstrap port 0; leave it out or say none",
                   p.url);
    }
  }
  for (const std::string& url : o.decode) {
    if (Status s = CheckUrl("--decode", url, decode); !s.ok()) return s;
    if (prefill.contains(http::ParseOrigin(url)->ToString())) {
      return Error(Code::kInvalidArgument, "{} is given as --prefill and as --decode", url);
    }
  }
  for (const std::string& url : o.worker_urls) {
    if (Status s = CheckUrl("--worker-urls", url, regular); !s.ok()) return s;
  }
  return Status::Ok();
}

}  // namespace

Result<ControlKey> ParseControlKey(std::string_view text) {
  std::array<std::string, 3> fields;
  std::string_view rest = text;
  for (std::string& field : fields) {
    const size_t colon = rest.find(':');
    if (colon == std::string_view::npos) rest = {};
    else field = rest.substr(0, colon), rest.remove_prefix(colon + 1);
  }
  // The text itself holds a secret, so the message does not quote it.
  if (fields[0].empty() || rest.empty() || (fields[2] != "admin" && fields[2] != "user"))
    return Error(Code::kInvalidArgument, "--control-plane-api-keys: expected id:name:role:key with role admin or user{}",
                 fields[0].empty() ? "" : fmt::format(" (in that of \"{}\")", fields[0]));
  return ControlKey{fields[0], fields[1], fields[2] == "admin", std::string(rest)};
}

Status Validate(const RouterOptions& o) {
  if (!o.pd_disaggregation && (!o.prefill.empty() || !o.decode.empty())) {
    return Error(Code::kInvalidArgument, "--prefill and --decode need --pd-disaggregation");
  }
  if (o.pd_disaggregation && !o.worker_urls.empty()) {
    return Error(Code::kInvalidArgument,
                 "--worker-urls is for regular mode; with --pd-disaggregation use --prefill and --decode");
  }
  if (Status s = CheckUrls(o); !s.ok()) return s;
  if (Status s = Validate(o.discovery, o.pd_disaggregation); !s.ok()) return s;
  if (o.tls.cert_file.empty() != o.tls.key_file.empty()) {
    return Error(Code::kInvalidArgument, "--tls-cert-path and --tls-key-path go together");
  }
  if (o.worker_tls.cert_file.empty() != o.worker_tls.key_file.empty()) {
    return Error(Code::kInvalidArgument, "--client-cert-path and --client-key-path go together");
  }
  if (o.tls.enabled()) {
    if (Status s = http::CheckTls(o.tls); !s.ok()) return s.Prefixed("--tls-cert-path");
  } else if (!o.tls.client_ca_files.empty()) {
    return Error(Code::kInvalidArgument, "--tls-client-ca-paths needs --tls-cert-path and --tls-key-path");
  }
  // Not without files: reading the system's authorities takes a tenth of a second.
  if (!o.worker_tls.ca_files.empty() || !o.worker_tls.cert_file.empty()) {
    if (Status s = http::CheckTls(o.worker_tls); !s.ok()) return s.Prefixed("--client-cert-path, --ca-cert-paths");
  }

  struct Positive {
    std::string_view flag;
    double value;
  };
  const Positive positives[] = {
      {"--retry-max-retries", static_cast<double>(o.retry.max_attempts)},
      {"--cb-failure-threshold", static_cast<double>(o.breaker.failure_threshold)},
      {"--cb-success-threshold", static_cast<double>(o.breaker.success_threshold)},
      {"--health-failure-threshold", static_cast<double>(o.health.failure_threshold)},
      {"--health-success-threshold", static_cast<double>(o.health.success_threshold)},
      {"--health-check-interval-secs", static_cast<double>(o.health.interval.count())},
      {"--health-check-timeout-secs", static_cast<double>(o.health.timeout.count())},
      {"--connect-timeout-ms", static_cast<double>(o.connect_timeout.count())},
      {"--request-timeout-secs", static_cast<double>(o.request_timeout.count())},
      {"--first-byte-timeout-secs", static_cast<double>(o.first_byte_timeout.count())},
      {"--stream-idle-timeout-secs", static_cast<double>(o.stream_idle_timeout.count())},
      {"--max-tree-size", static_cast<double>(o.policy.max_tree_bytes)},
      {"--max-idle-secs", Seconds(o.policy.max_idle)},
      {"--bucket-adjust-interval-secs", Seconds(o.policy.bucket_interval)},
      {"--queue-timeout-secs", Seconds(o.admission.queue_timeout)},
      {"--max-payload-size", static_cast<double>(o.max_payload_bytes)},
  };
  for (const Positive& p : positives) {
    if (!(p.value > 0)) return Error(Code::kInvalidArgument, "{} must be more than 0", p.flag);
  }
  if (o.max_total_payload_bytes != 0 && o.max_total_payload_bytes < o.max_payload_bytes) {
    return Error(Code::kInvalidArgument, "--max-total-payload-size must be at least --max-payload-size ({}), or 0", o.max_payload_bytes);
  }
  if (o.decode_policy == PolicyKind::kBucket && o.pd_disaggregation) {
    return Error(Code::kInvalidArgument, "--decode-policy bucket: it sorts prompts, so it is for --prefill-policy only");
  }
  if (o.policy.cache_threshold < 0 || o.policy.cache_threshold > 1) {
    return Error(Code::kInvalidArgument, "--cache-threshold must be in [0, 1]");
  }
  if (o.policy.balance_rel < 1) {
    return Error(Code::kInvalidArgument, "--balance-rel-threshold must be at least 1");
  }
  if (o.policy.balance_abs < 0 || o.load_poll_interval.count() < 0) {
    return Error(Code::kInvalidArgument, "--balance-abs-threshold and --load-poll-interval-secs must not be negative");
  }
  if (o.policy.hash_load_factor < 1) {
    return Error(Code::kInvalidArgument, "--prefix-hash-load-factor must be at least 1");
  }
  if (o.admission.rate_per_second < 0 || o.worker_queue_limit < 0) {
    return Error(Code::kInvalidArgument, "--rate-limit-tokens-per-second and --worker-queue-limit must not be negative");
  }
  if (o.worker_kv_limit < 0 || o.worker_kv_limit > 1) {
    return Error(Code::kInvalidArgument, "--worker-kv-limit must be in [0, 1]; 0 is no limit");
  }
  if ((o.worker_queue_limit > 0 || o.worker_kv_limit > 0) && o.load_poll_interval.count() == 0) {
    return Error(Code::kInvalidArgument, "--worker-queue-limit and --worker-kv-limit need --load-poll-interval-secs above 0");
  }
  if (!std::is_sorted(o.duration_buckets.begin(), o.duration_buckets.end(), std::less_equal<double>())) {
    return Error(Code::kInvalidArgument, "--prometheus-duration-buckets must ascend");
  }
  if (o.retry.multiplier < 1) {
    return Error(Code::kInvalidArgument, "--retry-backoff-multiplier must be at least 1");
  }
  if (o.migration.max_migrations < 0 || o.migration.worker_wait.count() < 0) {
    return Error(Code::kInvalidArgument, "--max-migrations and --worker-wait-secs must be at least 0");
  }
  if (o.migration.max_worker_kills < 1) {
    return Error(Code::kInvalidArgument, "--max-worker-kills must be at least 1");
  }
  if (o.retry.jitter < 0 || o.retry.jitter > 1) {
    return Error(Code::kInvalidArgument, "--retry-jitter-factor must be in [0, 1]");
  }
  if (o.health.endpoint.empty() || o.health.endpoint[0] != '/') {
    return Error(Code::kInvalidArgument, "--health-check-endpoint must begin with '/'");
  }
  if (o.prometheus_port < -1 || o.prometheus_port > 65'535) {
    return Error(Code::kInvalidArgument, "--prometheus-port must be in [0, 65535], or -1 for none");
  }
  return Status::Ok();
}

}  // namespace baton::router
