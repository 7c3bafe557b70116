#include "router/discovery/dns_lookup.h"

#include <algorithm>
#include <charconv>
#include <cstring>

#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <netdb.h>
#include <resolv.h>

#include "http/message.h"

namespace baton::router {
namespace {

constexpr size_t kMaxMessageBytes = 65'536;
constexpr size_t kMaxServices = 1024;  // of one SRV name
// Two tries of two seconds for each name server: a look-up that takes longer is a failed one.
constexpr int kTrySeconds = 2, kTries = 2;

// The library's state of one look-up.
class Resolver {
 public:
  explicit Resolver(const std::string& server) {
    std::memset(&state_, 0, sizeof state_);
    ready_ = res_ninit(&state_) == 0;
    if (!ready_) return;
    state_.retrans = kTrySeconds;
    state_.retry = kTries;
    state_.options |= RES_USE_EDNS0;
    if (server.empty()) return;
    const size_t colon = server.rfind(':');
    uint16_t port = 53;
    std::from_chars(server.data() + colon + 1, server.data() + server.size(), port);
    state_.nscount = 1;
    state_.nsaddr_list[0] = {};
    state_.nsaddr_list[0].sin_family = AF_INET;
    state_.nsaddr_list[0].sin_port = htons(port);
    inet_pton(AF_INET, server.substr(0, colon).c_str(), &state_.nsaddr_list[0].sin_addr);
  }
  ~Resolver() {
    if (ready_) res_nclose(&state_);
  }
  Resolver(const Resolver&) = delete;
  Resolver& operator=(const Resolver&) = delete;

  Result<DnsAnswer> Ask(const std::string& name, ns_type type) {
    if (!ready_) return Error(Code::kUnavailable, "/etc/resolv.conf cannot be used");
    std::vector<unsigned char> message(kMaxMessageBytes);
    const int size = res_nsearch(&state_, name.c_str(), ns_c_in, type, message.data(), static_cast<int>(message.size()));
    if (size >= 0) return ReadDnsAnswer({message.data(), std::min(message.size(), static_cast<size_t>(size))});
    switch (state_.res_h_errno) {
      case HOST_NOT_FOUND: return Error(Code::kNotFound, "{}: there is no such name", name);
      case NO_DATA: return Error(Code::kNotFound, "{}: the name has no such record", name);
      default: return Error(Code::kUnavailable, "{}: no name server could tell", name);
    }
  }

 private:
  struct __res_state state_;
  bool ready_ = false;
};

std::string Text(int family, const unsigned char* bytes) {
  char text[INET6_ADDRSTRLEN] = {};
  inet_ntop(family, bytes, text, sizeof text);
  return text;
}

void ReadRecord(const ns_msg& message, const ns_rr& record, bool answer, DnsAnswer* out) {
  const unsigned char* data = ns_rr_rdata(record);
  const size_t size = ns_rr_rdlen(record);
  if (ns_rr_class(record) != ns_c_in) return;
  if (ns_rr_type(record) == ns_t_a && size == 4) {
    if (answer) out->v4.push_back(Text(AF_INET, data));
    else out->extra_v4.emplace_back(ns_rr_name(record), Text(AF_INET, data));
  } else if (ns_rr_type(record) == ns_t_aaaa && size == 16) {
    if (answer) out->v6.push_back(Text(AF_INET6, data));
    else out->extra_v6.emplace_back(ns_rr_name(record), Text(AF_INET6, data));
  } else if (answer && ns_rr_type(record) == ns_t_srv && size > 6 && out->services.size() < kMaxServices) {
    char host[NS_MAXDNAME] = {};
    if (ns_name_uncompress(ns_msg_base(message), ns_msg_end(message), data + 6, host, sizeof host) < 0) return;
    const uint16_t port = static_cast<uint16_t>(data[4] << 8 | data[5]);
    // "." says that the service is decidedly not there (RFC 2782).
    if (port != 0 && host[0] != '\0' && std::strcmp(host, ".") != 0) out->services.push_back({host, port});
  }
}

void Sort(std::vector<DnsTarget>* targets) {
  std::sort(targets->begin(), targets->end());
  targets->erase(std::unique(targets->begin(), targets->end()), targets->end());
}

Result<std::vector<std::string>> Addresses(Resolver& resolver, const std::string& name) {
  auto four = resolver.Ask(name, ns_t_a);
  if (four.ok() && !four->v4.empty()) return std::move(four->v4);
  if (!four.ok() && four.status().code() != Code::kNotFound) return four.status();
  auto six = resolver.Ask(name, ns_t_aaaa);
  if (!six.ok()) return six.status();
  if (six->v6.empty()) return Error(Code::kNotFound, "{}: the name has no address", name);
  return std::move(six->v6);
}

std::vector<std::string> ExtraAddresses(const DnsAnswer& answer, const std::string& host) {
  std::vector<std::string> found;
  for (const auto* list : {&answer.extra_v4, &answer.extra_v6}) {
    for (const auto& [name, address] : *list) {
      if (http::EqualsIgnoreCase(name, host)) found.push_back(address);
    }
    if (!found.empty()) break;
  }
  return found;
}

Result<std::vector<DnsTarget>> LookUpServices(Resolver& resolver, const std::string& name) {
  const auto answer = resolver.Ask(name, ns_t_srv);
  if (!answer.ok()) return answer.status();
  std::vector<DnsTarget> targets;
  for (const DnsAnswer::Service& service : answer->services) {
    std::vector<std::string> addresses = ExtraAddresses(*answer, service.host);
    if (addresses.empty()) {
      auto asked = Addresses(resolver, service.host);
      // A target that is gone already is none; one that nobody could tell makes the answer incomplete.
      if (!asked.ok() && asked.status().code() == Code::kNotFound) continue;
      if (!asked.ok()) return asked.status();
      addresses = std::move(*asked);
    }
    for (std::string& address : addresses) targets.push_back({std::move(address), service.port});
  }
  if (targets.empty()) return Error(Code::kNotFound, "{}: no target of its SRV records has an address", name);
  Sort(&targets);
  return targets;
}

}  // namespace

Result<DnsAnswer> ReadDnsAnswer(std::span<const unsigned char> bytes) {
  ns_msg message;
  if (ns_initparse(bytes.data(), static_cast<int>(bytes.size()), &message) != 0) {
    return Error(Code::kDataCorrupt, "malformed DNS answer");
  }
  DnsAnswer out;
  for (const ns_sect section : {ns_s_an, ns_s_ar}) {
    for (int i = 0; i < ns_msg_count(message, section); ++i) {
      ns_rr record;
      if (ns_parserr(&message, section, i, &record) != 0) return Error(Code::kDataCorrupt, "malformed record in a DNS answer");
      ReadRecord(message, record, section == ns_s_an, &out);
    }
  }
  return out;
}

Result<std::vector<DnsTarget>> LookUp(const DnsName& name, const std::string& server) {
  Resolver resolver(server);
  if (name.port == 0) return LookUpServices(resolver, name.name);
  const auto addresses = Addresses(resolver, name.name);
  if (!addresses.ok()) return addresses.status();
  std::vector<DnsTarget> targets;
  for (const std::string& address : *addresses) targets.push_back({address, name.port});
  Sort(&targets);
  return targets;
}

}  // namespace baton::router
