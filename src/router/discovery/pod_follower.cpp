#include "router/discovery/pod_follower.h"

#include <algorithm>
#include <utility>

namespace baton::router {
namespace {

constexpr int kPageSize = 250;
constexpr Duration kFirstWait = std::chrono::milliseconds(250);
constexpr Duration kLongestWait = std::chrono::seconds(30);
constexpr Duration kShortWatch = std::chrono::seconds(2);
constexpr int kMinWatchSeconds = 240, kMaxWatchSeconds = 300;
constexpr size_t kMaxWarnings = 4096;  // remembered

std::string Encode(std::string_view text) {
  std::string out;
  for (unsigned char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '_' || c == '.' || c == '~';
    if (plain) out += static_cast<char>(c);
    else out += fmt::format("%{:02X}", c);
  }
  return out;
}

std::string BaseTarget(const KubeOptions& options, bool pd) {
  std::string base = options.space.empty() ? "/api/v1/pods?" : fmt::format("/api/v1/namespaces/{}/pods?", options.space);
  if (const std::string selector = ServerSideSelector(options, pd); !selector.empty()) {
    base += "labelSelector=" + Encode(selector) + "&";
  }
  return base;
}

std::string_view TextAt(const json::object& from, std::string_view key) {
  const json::value* v = json::Find(from, key);
  return v && v->is_string() ? std::string_view(v->get_string()) : std::string_view();
}

const json::object* ObjectAt(const json::object& from, std::string_view key) {
  const json::value* v = json::Find(from, key);
  return v && v->is_object() ? &v->get_object() : nullptr;
}

// The message of a Status object, or the beginning of whatever came instead.
std::string MessageIn(std::string_view body) {
  const auto parsed = json::Parse(body);
  if (parsed.ok() && parsed->is_object()) {
    if (const std::string_view message = TextAt(parsed->get_object(), "message"); !message.empty()) return std::string(message);
  }
  return std::string(body.substr(0, 200));
}

}  // namespace

PodFollower::PodFollower(KubeOptions options, bool pd, uint64_t seed)
    : options_(std::move(options)), pd_(pd), base_(BaseTarget(options_, pd)), random_(seed) {}

PodFollower::Request PodFollower::Next() {
  Request request;
  // The first 410 is the usual end of an old version; a server that says it to each watch is not.
  if (const int bad = std::max(failures_, gone_ - 1); bad > 0) {
    const Duration grown = kFirstWait * (int64_t{1} << std::min(bad - 1, 10));
    // From half of it to all of it, so that routers do not come back in step.
    const double share = std::uniform_real_distribution<double>(0.5, 1.0)(random_);
    const auto jittered = std::chrono::duration_cast<Duration>(std::min(grown, kLongestWait) * share);
    request.wait = std::max(jittered, std::min(retry_after_, kLongestWait));
  }
  if (version_.empty()) {
    request.target = base_;
    if (!whole_list_) request.target += fmt::format("limit={}", kPageSize);
    if (!continue_.empty()) request.target += "&continue=" + Encode(continue_);
    if (request.target.ends_with('?') || request.target.ends_with('&')) request.target.pop_back();
    return request;
  }
  const int seconds = std::uniform_int_distribution<int>(kMinWatchSeconds, kMaxWatchSeconds)(random_);
  request.watch = true;
  request.server_timeout = std::chrono::seconds(seconds);
  request.target = fmt::format("{}watch=1&allowWatchBookmarks=true&resourceVersion={}&timeoutSeconds={}", base_,
                               Encode(version_), seconds);
  return request;
}

void PodFollower::Fail(std::string problem, Duration retry_after) {
  ++failures_;
  retry_after_ = retry_after;
  problem_ = std::move(problem);
}

void PodFollower::ListAgain() {
  version_.clear();
  continue_.clear();
  pages_.clear();
}

void PodFollower::OnGone() {
  ListAgain();
  ++gone_;
}

void PodFollower::Refused(std::string_view what, int status, std::string_view body, Duration retry_after) {
  const std::string message = MessageIn(body);
  if (status == 401) {
    return Fail(fmt::format("the API server does not know our token (401: {}); {}", message,
                            options_.token_file.empty() ? "give --kube-token-file"
                                                        : "it is read from " + options_.token_file + " for each request"),
                retry_after);
  }
  if (status == 403) {
    const bool all = options_.space.empty();
    return Fail(fmt::format("the API server does not let us {} pods (403: {}); bind the service account to a {} with the rule "
                            "apiGroups: [\"\"], resources: [\"pods\"], verbs: [\"get\", \"list\", \"watch\"]{}",
                            what, message, all ? "ClusterRole" : "Role in namespace " + options_.space,
                            all ? ", or name one namespace by --service-discovery-namespace" : ""),
                retry_after);
  }
  Fail(fmt::format("cannot {} pods: {} {}", what, status, message), retry_after);
}

void PodFollower::Note(const Pod& pod) {
  if (pod.warning.empty() || !pod.role || warned_.size() >= kMaxWarnings) return;
  if (warned_.insert(pod.uid + " " + pod.warning).second) warnings_.push_back(fmt::format("pod {}/{}: {}", pod.space, pod.name, pod.warning));
}

void PodFollower::OnList(int status, std::string_view body, Duration retry_after) {
  if (status == 410 && !continue_.empty()) {
    // The pages are older than what the server keeps. All at once cannot expire.
    ListAgain();
    whole_list_ = true;
    return Fail("the list expired between two pages");
  }
  if (status != 200) {
    ListAgain();
    return Refused("list", status, body, retry_after);
  }
  const auto parsed = json::Parse(body);
  const json::object* list = parsed.ok() && parsed->is_object() ? &parsed->get_object() : nullptr;
  const json::object* metadata = list ? ObjectAt(*list, "metadata") : nullptr;
  const std::string_view version = metadata ? TextAt(*metadata, "resourceVersion") : "";
  const json::value* items = list ? list->if_contains("items") : nullptr;
  if (version.empty() || !items || !(items->is_array() || items->is_null())) {
    ListAgain();
    return Fail(parsed.ok() ? "the answer to a list is not a PodList: is --kube-api the address of a Kubernetes API server?"
                            : "the answer to a list is no JSON: " + parsed.status().message());
  }
  if (items->is_array()) {
    for (const json::value& item : items->get_array()) {
      if (!item.is_object()) continue;
      auto pod = ReadPod(item.get_object(), options_, pd_);
      if (!pod.ok()) continue;  // cannot be told apart from others, so it cannot be a worker
      Note(*pod);
      if (pod->role) pages_.push_back(std::move(*pod));
    }
  }
  failures_ = 0;
  problem_.clear();
  continue_ = TextAt(*metadata, "continue");
  if (!continue_.empty()) return;
  version_ = version;
  whole_list_ = false;
  table_.OnList(std::exchange(pages_, {}));
  synced_ = true;
  changed_ = true;
}

void PodFollower::OnWatchRefused(int status, std::string_view body, Duration retry_after) {
  if (status == 410) return OnGone();
  Refused("watch", status, body, retry_after);
  // The server may have forgotten our version without saying 410: after a few attempts start over.
  if (failures_ % 4 == 0) ListAgain();
}

bool PodFollower::OnWatchLine(std::string_view line) {
  const auto parsed = json::Parse(line);
  if (parsed.ok() && parsed->is_object()) return OnEvent(parsed->get_object());
  OnWatchGarbled(parsed.ok() ? "a watch event is no object" : "a watch event is no JSON: " + parsed.status().message());
  return false;
}

// What was said is lost, so the table cannot be trusted.
void PodFollower::OnWatchGarbled(std::string reason) {
  ListAgain();
  Fail(std::move(reason));
}

bool PodFollower::OnEvent(const json::object& event) {
  const std::string_view type = TextAt(event, "type");
  const json::object* object = ObjectAt(event, "object");
  if (type == "ERROR") {
    const json::value* code = object ? json::Find(*object, "code") : nullptr;
    const bool gone = code && code->is_int64() && code->get_int64() == 410;
    if (gone) OnGone();
    else Fail(fmt::format("the watch ended with an error: {}", object ? TextAt(*object, "message") : "(not told)"));
    return false;
  }
  const json::object* metadata = object ? ObjectAt(*object, "metadata") : nullptr;
  const std::string_view version = metadata ? TextAt(*metadata, "resourceVersion") : "";
  const bool upsert = type == "ADDED" || type == "MODIFIED";
  if (version.empty() || !(upsert || type == "DELETED" || type == "BOOKMARK")) {
    OnWatchGarbled(fmt::format("a watch event of type \"{}\" that cannot be read", type.substr(0, 40)));
    return false;
  }
  if (type != "BOOKMARK") {
    auto pod = ReadPod(*object, options_, pd_);
    if (!pod.ok()) {
      OnWatchGarbled("a watch event tells of " + pod.status().message());
      return false;
    }
    Note(*pod);
    if (upsert) table_.OnUpsert(std::move(*pod));
    else table_.OnDelete(*pod);
    changed_ = true;
  }
  version_ = version;
  failures_ = gone_ = 0;
  problem_.clear();
  return true;
}

void PodFollower::OnWatchEnd(Duration lasted, std::string_view reason) {
  if (lasted >= kShortWatch) {
    failures_ = gone_ = 0;
    problem_.clear();
    return;
  }
  // A server that ends its watches at once is not asked in a tight loop.
  Fail(fmt::format("the watch ended after {:.1f} s{}{}", Seconds(lasted), reason.empty() ? "" : ": ", reason));
}

void PodFollower::OnUnreachable(std::string_view reason) {
  if (version_.empty()) ListAgain();  // pages of an interrupted list are asked for again
  Fail(fmt::format("the API server cannot be reached: {}", reason));
}

}  // namespace baton::router
