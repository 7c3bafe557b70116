#include "router/discovery/kube_pod.h"

#include <algorithm>
#include <charconv>

#include <boost/asio/ip/address.hpp>

namespace baton::router {
namespace {

constexpr size_t kMaxPorts = 64;  // servers in one pod

const json::object* ObjectAt(const json::object& from, std::string_view key) {
  const json::value* v = json::Find(from, key);
  return v && v->is_object() ? &v->get_object() : nullptr;
}

std::string_view TextAt(const json::object& from, std::string_view key) {
  const json::value* v = json::Find(from, key);
  return v && v->is_string() ? std::string_view(v->get_string()) : std::string_view();
}

bool Matches(const json::object* labels, const Selector& selector) {
  if (selector.empty()) return false;
  return labels && std::all_of(selector.begin(), selector.end(), [&](const auto& pair) {
    const json::value* v = json::Find(*labels, pair.first);
    return v && v->is_string() && std::string_view(v->get_string()) == pair.second;
  });
}

std::optional<Role> RoleOf(const json::object* labels, const KubeOptions& options, bool pd) {
  if (!pd) return Matches(labels, options.selector) ? std::optional(Role::kRegular) : std::nullopt;
  if (Matches(labels, options.prefill_selector)) return Role::kPrefill;
  if (Matches(labels, options.decode_selector)) return Role::kDecode;
  return std::nullopt;
}

bool IsReady(const json::object& status) {
  const json::value* conditions = json::Find(status, "conditions");
  if (!conditions || !conditions->is_array()) return false;
  for (const json::value& c : conditions->get_array()) {
    if (c.is_object() && TextAt(c.get_object(), "type") == "Ready") return TextAt(c.get_object(), "status") == "True";
  }
  return false;
}

PodState StateOf(const json::object& metadata, const json::object* status, bool has_ip) {
  const std::string_view phase = status ? TextAt(*status, "phase") : "";
  if (phase == "Succeeded" || phase == "Failed") return PodState::kOver;
  if (json::Find(metadata, "deletionTimestamp")) return PodState::kEnding;
  if (!has_ip || phase == "Pending" || phase.empty()) return PodState::kWaiting;
  return phase == "Running" && IsReady(*status) ? PodState::kServing : PodState::kPaused;
}

std::string AddressIn(const json::object* status) {
  const std::string_view text = status ? TextAt(*status, "podIP") : "";
  boost::system::error_code ec;
  const auto address = boost::asio::ip::make_address(std::string(text), ec);
  return ec ? "" : address.to_string();
}

// "30000" or "30000,30001". Empty when a part is not a port.
std::vector<uint16_t> ReadPorts(std::string_view text) {
  std::vector<uint16_t> ports;
  while (true) {
    const size_t comma = text.find(',');
    std::string_view part = text.substr(0, comma);
    while (part.starts_with(' ')) part.remove_prefix(1);
    while (part.ends_with(' ')) part.remove_suffix(1);
    uint16_t port = 0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), port);
    const bool seen = std::find(ports.begin(), ports.end(), port) != ports.end();
    if (error != std::errc() || end != part.data() + part.size() || port == 0 || seen || ports.size() == kMaxPorts) return {};
    ports.push_back(port);
    if (comma == std::string_view::npos) return ports;
    text.remove_prefix(comma + 1);
  }
}

// The annotation of that name; else the label.
std::string_view Mark(const json::object& metadata, const std::string& name) {
  for (const char* kind : {"annotations", "labels"}) {
    const json::object* marks = ObjectAt(metadata, kind);
    if (const std::string_view text = marks ? TextAt(*marks, name) : ""; !text.empty()) return text;
  }
  return "";
}

void ReadPodPorts(const json::object& metadata, const KubeOptions& options, Pod* pod) {
  const auto read = [&](const std::string& name, std::string_view text) {
    std::vector<uint16_t> ports = ReadPorts(text);
    if (ports.empty()) {
      pod->warning = fmt::format("{} \"{}\" is not a list of distinct ports from 1 to 65535 and is ignored", name, text.substr(0, 64));
    }
    return ports;
  };
  std::vector<uint16_t> http, bootstrap;
  if (const std::string_view text = Mark(metadata, options.port_annotation); !text.empty()) http = read(options.port_annotation, text);
  if (http.empty()) http = {options.port};
  const std::string_view text = Mark(metadata, options.bootstrap_annotation);
  if (pod->role == Role::kPrefill && !text.empty()) bootstrap = read(options.bootstrap_annotation, text);
  if (!bootstrap.empty() && bootstrap.size() != http.size()) {
    pod->warning = fmt::format("{} lists {} ports for {} servers and is ignored", options.bootstrap_annotation, bootstrap.size(), http.size());
    bootstrap.clear();
  }
  for (size_t i = 0; i < http.size(); ++i) {
    pod->ports.push_back({http[i], bootstrap.empty() ? std::nullopt : std::optional(bootstrap[i])});
  }
}

}  // namespace

Result<Pod> ReadPod(const json::object& from, const KubeOptions& options, bool pd) {
  const json::object* metadata = ObjectAt(from, "metadata");
  if (!metadata || TextAt(*metadata, "uid").empty()) return Error(Code::kDataCorrupt, "a pod without metadata.uid");
  Pod pod;
  pod.uid = TextAt(*metadata, "uid");
  pod.space = TextAt(*metadata, "namespace");
  pod.name = TextAt(*metadata, "name");
  pod.created = TextAt(*metadata, "creationTimestamp");
  pod.role = RoleOf(ObjectAt(*metadata, "labels"), options, pd);
  const json::object* status = ObjectAt(from, "status");
  pod.ip = AddressIn(status);
  pod.state = StateOf(*metadata, status, !pod.ip.empty());
  ReadPodPorts(*metadata, options, &pod);
  return pod;
}

std::string ServerSideSelector(const KubeOptions& o, bool pd) {
  std::string out;
  const auto add = [&](std::string_view term) { out.append(out.empty() ? "" : ",").append(term); };
  if (!pd || o.prefill_selector.empty() || o.decode_selector.empty()) {
    const Selector& only = !pd ? o.selector : o.prefill_selector.empty() ? o.decode_selector : o.prefill_selector;
    for (const auto& [key, value] : only) add(key + "=" + value);
    return out;
  }
  // There is no "or" between keys: only what both roles ask of the same key can be asked of the server.
  for (const auto& [key, value] : o.prefill_selector) {
    for (const auto& [other_key, other] : o.decode_selector) {
      if (key == other_key) add(value == other ? key + "=" + value : fmt::format("{} in ({},{})", key, value, other));
    }
  }
  return out;
}

}  // namespace baton::router
