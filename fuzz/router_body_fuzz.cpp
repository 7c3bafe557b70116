// Bootstrap injection on arbitrary bytes: what parses as a JSON object must come out as the same
// object, without the client's own bootstrap_* members and with the router's three.
#include <cstdint>
#include <cstdlib>
#include <cstdio>
#include <string_view>

#include "common/json.h"
#include "router/bootstrap.h"
#include "router/dp_rank.h"
#include "router/json_scan.h"
#include "router/logprobs.h"
#include "router/sse_frame.h"
#include "router/verdict.h"

namespace {

using namespace baton;  // NOLINT

void Require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "broken: %s\n", what);
  std::abort();
}

void CheckInjection(router::Api api, std::string_view body, const Result<json::value>& parsed, bool cut_ranks) {
  const auto facts = router::InspectBody(api, body, cut_ranks);
  if (!parsed.ok() || !parsed->is_object()) return;
  // The router's depth bound is above the parser's; only too many samples may be refused.
  if (!facts.ok()) {
    Require(facts.status().message().find("samples") != std::string::npos, "an object was refused");
    return;
  }
  const router::Bootstrap bootstrap{"10.0.0.1", 8998, router::DrawRooms(facts->samples)};
  const auto out = json::Parse(router::InjectBootstrap(body, *facts, bootstrap).Whole(body));
  Require(out.ok() && out->is_object(), "the result is no object");
  json::object expected = parsed->get_object(), rest = out->get_object();
  for (const char* key : {"bootstrap_host", "bootstrap_port", "bootstrap_room"}) {
    Require(rest.contains(key), "a field is missing");
    expected.erase(key);
    rest.erase(key);
  }
  for (std::string_view key : router::kRankMembers) {
    if (!cut_ranks) break;
    Require(!rest.contains(key), "a rank of the client is left");
    expected.erase(key);
  }
  Require(expected == rest, "another member changed");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  const auto parsed = json::Parse(body);
  for (auto api : {router::Api::kGenerate, router::Api::kChat, router::Api::kCompletions}) {
    for (const bool cut_ranks : {false, true}) CheckInjection(api, body, parsed, cut_ranks);
  }
  // The same bytes as what workers might send.
  (void)router::FailureOfFirstEvent(body);
  (void)router::ReadWorkerError(body);
  auto logprobs = router::InputLogprobs::Read(body, size % 2 == 0);
  if (logprobs.ok()) {
    (void)logprobs->MergeBody(body);
    (void)logprobs->MergeEvent(body);
  }
  router::SseFramer framer;
  const size_t half = size / 2;
  std::string joined(framer.Feed(body.substr(0, half)));
  joined += framer.Feed(body.substr(half));
  Require(body.substr(0, joined.size()) == joined, "framing changed bytes");
  return 0;
}
