// The flags of `baton router` that say where workers come from besides the command line.
#pragma once

#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "router/discovery/options.h"

namespace baton::cli {

struct DiscoveryFlags {
  router::DiscoveryOptions options;
  std::vector<std::string> selector, prefill_selector, decode_selector;
  std::vector<std::string> prefill_dns, decode_dns, worker_dns;
  double dns_interval_s = 5;
};

void AddDiscoveryFlags(CLI::App& command, DiscoveryFlags& flags);
// kInvalidArgument names the flag.
Result<router::DiscoveryOptions> ToDiscoveryOptions(const DiscoveryFlags& flags);

}  // namespace baton::cli
