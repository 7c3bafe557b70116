// Where workers come from besides the command line and POST /workers: Kubernetes, DNS, a file. Plain
// values; cli/discovery_flags.cpp binds the flags.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "common/status.h"

namespace baton::router {

// Labels that a pod must all have.
using Selector = std::vector<std::pair<std::string, std::string>>;

struct KubeOptions {
  bool enabled = false;
  Selector selector;                             // regular mode
  Selector prefill_selector, decode_selector;    // PD mode
  uint16_t port = 80;                            // of the workers, unless a pod says otherwise
  std::string space;                             // namespace; "": all of them
  std::string port_annotation = "baton/http-port";
  std::string bootstrap_annotation = "sglang.ai/bootstrap-port";
  // The API server: "" for the one of the cluster that this pod runs in.
  std::string api_url;
  std::string token_file;                        // read anew for each request; "": none
  std::string ca_file;                           // "": the system's authorities
};

// "NAME:PORT", or "_port._protocol.NAME" for SRV records, which bring the ports.
struct DnsName {
  std::string name;
  uint16_t port = 0;  // 0: SRV
};
// kInvalidArgument says what is wrong.
Result<DnsName> ParseDnsName(std::string_view text);

struct DnsOptions {
  std::vector<DnsName> prefill, decode, regular;
  std::chrono::milliseconds interval{5'000};
  std::string resolver;  // "ADDRESS:PORT" (IPv4) instead of /etc/resolv.conf
  bool enabled() const { return !prefill.empty() || !decode.empty() || !regular.empty(); }
};

struct DiscoveryOptions {
  KubeOptions kube;
  DnsOptions dns;
  std::string workers_file;
  bool enabled() const { return kube.enabled || dns.enabled() || !workers_file.empty(); }
};

// Appends the KEY=VALUE pairs of `words`, each of which may hold several with commas between them.
// kInvalidArgument names the word.
Status ParseSelector(const std::vector<std::string>& words, Selector* out);

// kInvalidArgument names the flag and the way out.
Status Validate(const DiscoveryOptions& options, bool pd);

}  // namespace baton::router
