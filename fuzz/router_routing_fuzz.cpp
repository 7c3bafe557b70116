// What the router reads for its choice of a worker, on arbitrary bytes: the conversation of a body
// (also of one that was never inspected), a worker's load report, the target header.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "router/conversation.h"
#include "router/dp_rank.h"
#include "router/target_worker.h"
#include "router/worker_load.h"

namespace {

using namespace baton;  // NOLINT

void Require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "broken: %s\n", what);
  std::abort();
}

void CheckDigest(router::Api api, std::string_view body, const router::BodyFacts& facts) {
  const router::PrefixDigest digest = router::DigestPrompt(api, body, facts);
  Require(digest.BytesUpTo(digest.keys().size()) <= digest.bytes(), "more covered than there is");
  // A message adds two marks, every other member of it one more than its own bytes at most.
  Require(digest.bytes() <= 3 * body.size() + 16, "text out of nothing");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  for (auto api : {router::Api::kGenerate, router::Api::kChat, router::Api::kCompletions}) {
    const auto facts = router::InspectBody(api, body);
    if (facts.ok()) CheckDigest(api, body, *facts);
    router::BodyFacts raw;
    raw.prompt = {size / 3, size};
    raw.tools = {0, size / 2};
    CheckDigest(api, body, raw);
  }
  router::RankReports by_rank;
  (void)router::ReadLoadReport(body, &by_rank);
  Require(by_rank.size() <= 4096, "as many ranks as somebody says");
  (void)router::HasOldRankMember(body);
  if (const auto ranked = router::SplitRankedUrl(body)) Require(ranked->rank >= 0, "a negative rank");
  (void)router::ParseTargetWorker(body);
  return 0;
}
