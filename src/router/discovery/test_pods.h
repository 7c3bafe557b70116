// For the tests of Kubernetes discovery: pods, lists and events in the API server's JSON.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "common/json.h"

namespace baton::router::test {

struct PodSpec {
  std::string uid = "u1";
  std::string ip = "10.0.0.1";
  std::string role = "prefill";  // value of the label "role"
  bool ready = true;
  std::string phase = "Running";
  bool deleting = false;
  std::string created = "2026-01-01T00:00:00Z";
  json::object annotations = {};
  int64_t version = 1;
};

inline json::object PodJson(const PodSpec& spec) {
  json::object metadata = {{"uid", spec.uid},
                           {"name", "pod-" + spec.uid},
                           {"namespace", "llm"},
                           {"creationTimestamp", spec.created},
                           {"resourceVersion", fmt::format("{}", spec.version)},
                           {"labels", json::object{{"role", spec.role}, {"app", "baton"}}}};
  if (!spec.annotations.empty()) metadata["annotations"] = spec.annotations;
  if (spec.deleting) metadata["deletionTimestamp"] = "2026-01-02T00:00:00Z";
  json::object status = {{"phase", spec.phase},
                         {"conditions", json::array{json::object{{"type", "Initialized"}, {"status", "True"}},
                                                    json::object{{"type", "Ready"}, {"status", spec.ready ? "True" : "False"}}}}};
  if (!spec.ip.empty()) status["podIP"] = spec.ip;
  return {{"metadata", std::move(metadata)}, {"status", std::move(status)}};
}

inline std::string ListJson(const std::vector<PodSpec>& pods, int64_t version, std::string_view next = "") {
  json::array items;
  for (const PodSpec& pod : pods) items.push_back(PodJson(pod));
  json::object metadata = {{"resourceVersion", fmt::format("{}", version)}};
  if (!next.empty()) metadata["continue"] = next;
  return json::serialize(json::object{{"kind", "PodList"}, {"metadata", std::move(metadata)}, {"items", std::move(items)}});
}

inline std::string EventJson(std::string_view type, const PodSpec& pod) {
  return json::serialize(json::object{{"type", type}, {"object", PodJson(pod)}});
}

inline std::string BookmarkJson(int64_t version) {
  return fmt::format(R"({{"type":"BOOKMARK","object":{{"kind":"Pod","metadata":{{"resourceVersion":"{}"}}}}}})", version);
}

inline std::string ErrorJson(int code) {
  return fmt::format(R"({{"type":"ERROR","object":{{"kind":"Status","code":{},"message":"too old resource version"}}}})", code);
}

}  // namespace baton::router::test
