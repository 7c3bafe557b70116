#include "router/discovery/options.h"

#include <charconv>

#include <arpa/inet.h>

namespace baton::router {
namespace {

// Letters, digits and "-_." (and "/" between a key's prefix and name), as Kubernetes has it.
bool IsLabelText(std::string_view text, bool key) {
  for (char c : text) {
    const bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                      c == '-' || c == '_' || c == '.' || (key && c == '/');
    if (!good) return false;
  }
  return text.size() <= (key ? 317 : 63) && (!key || !text.empty());
}

Status ReadPair(std::string_view pair, Selector* out) {
  const size_t equals = pair.find('=');
  if (equals == std::string_view::npos) return Error(Code::kInvalidArgument, "\"{}\" is not KEY=VALUE", pair);
  const std::string_view key = pair.substr(0, equals), value = pair.substr(equals + 1);
  if (!IsLabelText(key, true) || !IsLabelText(value, false)) {
    return Error(Code::kInvalidArgument, "\"{}\" is not a label: KEY=VALUE of letters, digits, '-', '_', '.' and a '/' in the key", pair);
  }
  for (const auto& [other, other_value] : *out) {
    if (other == key && other_value != value) {
      return Error(Code::kInvalidArgument, "label {} cannot be both \"{}\" and \"{}\"", key, other_value, value);
    }
  }
  out->emplace_back(key, value);
  return Status::Ok();
}

// 0 when it is none.
uint16_t ReadPort(std::string_view text) {
  uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  return error == std::errc() && end == text.data() + text.size() ? port : 0;
}

Status ValidateKube(const KubeOptions& o, bool pd) {
  const bool any = !o.selector.empty() || !o.prefill_selector.empty() || !o.decode_selector.empty();
  if (!o.enabled) {
    if (any) return Error(Code::kInvalidArgument, "--selector, --prefill-selector and --decode-selector need --service-discovery");
    return Status::Ok();
  }
  if (pd && !o.selector.empty()) {
    return Error(Code::kInvalidArgument, "--selector is for regular mode; with --pd-disaggregation use --prefill-selector and --decode-selector");
  }
  if (!pd && (!o.prefill_selector.empty() || !o.decode_selector.empty())) {
    return Error(Code::kInvalidArgument, "--prefill-selector and --decode-selector need --pd-disaggregation");
  }
  if (!any) {
    return Error(Code::kInvalidArgument, "--service-discovery needs {}: else every pod would be a worker",
                 pd ? "--prefill-selector or --decode-selector" : "--selector");
  }
  if (pd && o.prefill_selector == o.decode_selector) {
    return Error(Code::kInvalidArgument, "--prefill-selector and --decode-selector are the same: no pod would be a decode worker");
  }
  if (o.port == 0) return Error(Code::kInvalidArgument, "--service-discovery-port must be in [1, 65535]");
  if (!IsLabelText(o.space, false)) return Error(Code::kInvalidArgument, "--service-discovery-namespace \"{}\" is not a namespace's name", o.space);
  return Status::Ok();
}

}  // namespace

Result<DnsName> ParseDnsName(std::string_view text) {
  DnsName out;
  const size_t colon = text.rfind(':');
  const bool srv = text.starts_with('_') && text.find("._") != std::string_view::npos;
  if (colon == std::string_view::npos && !srv) {
    return Error(Code::kInvalidArgument, "\"{}\": expected NAME:PORT, or _PORT._tcp.NAME for SRV records", text);
  }
  if (colon != std::string_view::npos && srv) {
    return Error(Code::kInvalidArgument, "\"{}\": SRV records bring the port; leave it out", text);
  }
  out.name = text.substr(0, colon);
  if (!srv) {
    const std::string_view port = text.substr(colon + 1);
    out.port = ReadPort(port);
    if (out.port == 0) {
      return Error(Code::kInvalidArgument, "\"{}\": port \"{}\" is not a number from 1 to 65535", text, port);
    }
  }
  if (out.name.empty() || out.name.size() > 253 || !IsLabelText(out.name.substr(0, 63), false) ||
      out.name.find_first_of("/: ") != std::string::npos) {
    return Error(Code::kInvalidArgument, "\"{}\" is not a host name", text);
  }
  return out;
}

Status ParseSelector(const std::vector<std::string>& words, Selector* out) {
  for (std::string_view word : words) {
    while (!word.empty()) {
      const size_t comma = word.find(',');
      if (Status s = ReadPair(word.substr(0, comma), out); !s.ok()) return s;
      word = comma == std::string_view::npos ? "" : word.substr(comma + 1);
    }
  }
  return Status::Ok();
}

Status Validate(const DiscoveryOptions& o, bool pd) {
  if (Status s = ValidateKube(o.kube, pd); !s.ok()) return s;
  if (pd && !o.dns.regular.empty()) {
    return Error(Code::kInvalidArgument, "--worker-dns is for regular mode; with --pd-disaggregation use --prefill-dns and --decode-dns");
  }
  if (!pd && (!o.dns.prefill.empty() || !o.dns.decode.empty())) {
    return Error(Code::kInvalidArgument, "--prefill-dns and --decode-dns need --pd-disaggregation");
  }
  if (o.dns.interval.count() < 100) return Error(Code::kInvalidArgument, "--dns-interval-secs must be at least 0.1");
  if (!o.dns.resolver.empty()) {
    const size_t colon = o.dns.resolver.rfind(':');
    in_addr address{};
    if (colon == std::string::npos || ReadPort(o.dns.resolver.substr(colon + 1)) == 0 ||
        inet_pton(AF_INET, o.dns.resolver.substr(0, colon).c_str(), &address) != 1) {
      return Error(Code::kInvalidArgument, "--dns-resolver \"{}\": expected an IPv4 ADDRESS:PORT", o.dns.resolver);
    }
  }
  return Status::Ok();
}

}  // namespace baton::router
