// Look-ups of A, AAAA and SRV records with the C library's resolver, which knows /etc/resolv.conf, its
// search list and TCP for long answers. It blocks: call on a thread that may wait. /etc/hosts is not
// asked.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/status.h"
#include "router/discovery/options.h"

namespace baton::router {

struct DnsTarget {
  std::string address;  // numeric
  uint16_t port = 0;
  friend auto operator<=>(const DnsTarget&, const DnsTarget&) = default;
};

// The records of one answer that matter here.
struct DnsAnswer {
  struct Service {
    std::string host;
    uint16_t port = 0;
  };
  std::vector<std::string> v4, v6;  // of the answer section, whatever their names: aliases were followed
  std::vector<Service> services;
  std::vector<std::pair<std::string, std::string>> extra_v4, extra_v6;  // host, address: came with SRV
};

// Parses a message as it came from the network. kDataCorrupt.
Result<DnsAnswer> ReadDnsAnswer(std::span<const unsigned char> message);

// Every address of `name` with its port, sorted, without repetitions. IPv4 when there is any, else
// IPv6, so that a dual-stack worker is found once. `resolver`: DnsOptions::resolver.
// kNotFound: the name is not there, or has no such record. kUnavailable: nobody could tell.
Result<std::vector<DnsTarget>> LookUp(const DnsName& name, const std::string& resolver);

}  // namespace baton::router
