// Reads request traces: Mooncake's JSONL and ShareGPT-like conversations. Pure; hostile files give
// an error that names the line or the element, never a crash.
//
// Mooncake (https://github.com/kvcache-ai/Mooncake, FAST'25 release): one object a line with
// timestamp (ms), input_length, output_length (tokens) and hash_ids, one id per 512-token block;
// equal ids mean equal blocks, so requests that begin with the same ids share a prefix.
// ShareGPT: an array (or JSONL) of {"conversations": [{"from": "human"|"gpt", "value": text}]};
// role/content and user/assistant are understood too.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"

namespace baton::bench::serving {

struct TraceRequest {
  double at_ms = 0;  // since the start of the trace
  int input_tokens = 0;
  int output_tokens = 0;
  size_t first_hash = 0;  // into Trace::hashes
  size_t hash_count = 0;
};

struct Trace {
  std::vector<TraceRequest> requests;  // by time
  std::vector<uint64_t> hashes;
  std::span<const uint64_t> HashesOf(const TraceRequest& r) const {
    return std::span(hashes).subspan(r.first_hash, r.hash_count);
  }
};

// At most `max_requests` lines are read (0: all). kDataCorrupt names the line.
Result<Trace> ParseMooncakeTrace(std::string_view text, size_t max_requests = 0);

struct Exchange {
  std::string user;
  std::string assistant;
};

// The objects of a JSON array, or of a JSONL file, as they stand in `text`: not parsed yet, so that
// a file of any size costs one pass. kDataCorrupt names the byte.
Result<std::vector<std::string_view>> SplitObjects(std::string_view text);

// The exchanges of one ShareGPT element, user first; empty when it has no complete one.
// kDataCorrupt when it is not a conversation at all.
Result<std::vector<Exchange>> ParseConversation(std::string_view element);

}  // namespace baton::bench::serving
