// Trace and conversation files of the load generator: no crash, and what is accepted keeps its
// bounds.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "bench/serving/lengths.h"
#include "bench/serving/slo.h"
#include "bench/serving/trace.h"

namespace serving = baton::bench::serving;

namespace {

void CheckTrace(std::string_view text) {
  const auto trace = serving::ParseMooncakeTrace(text);
  if (!trace.ok()) return;
  double last = 0;
  for (const auto& request : trace->requests) {
    if (request.at_ms < last || request.input_tokens < 0 || request.output_tokens < 0) std::abort();
    if (request.first_hash + request.hash_count > trace->hashes.size()) std::abort();
    last = request.at_ms;
  }
}

void CheckConversations(std::string_view text) {
  const auto objects = serving::SplitObjects(text);
  if (!objects.ok()) return;
  for (const std::string_view object : *objects) {
    if (object.empty() || object.front() != '{' || object.back() != '}') std::abort();
    const auto exchanges = serving::ParseConversation(object);
    if (!exchanges.ok()) continue;
    for (const auto& exchange : *exchanges) {
      if (exchange.user.empty() || exchange.assistant.empty()) std::abort();
    }
  }
}

void CheckFlags(std::string_view text) {
  (void)serving::Slo::Parse(text);
  const auto lengths = serving::LengthDistribution::Parse(text);
  serving::Rng rng(1);
  if (lengths.ok() && lengths->Draw(rng) < 0) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  CheckTrace(text);
  CheckConversations(text);
  if (size < 64) CheckFlags(text);
  return 0;
}
