// How fast the engine runs a model on this machine, with the machine's own limits measured in the
// same process beside it. No HTTP, no text: random token ids in, tokens out.
#pragma once

#include <string>

#include "common/json.h"
#include "common/status.h"

namespace baton::bench {

struct EngineBenchOptions {
  std::string model_path;
  std::string backend = "cpu";  // or "reference"
  std::string isa;              // "": the best; else forced ("avx2", "avx512", "avx512-vnni")
  int threads = 0;              // 0: all cores of the affinity mask
  int prompt_len = 512;
  int gen_len = 64;             // at least 2
  int batch = 1;                // sequences at once
  int chunk_tokens = 512;       // most prompt tokens of one step
  int repetitions = 3;          // the median counts
  double ceiling_seconds = 0.5; // for each of the two measurements of the machine
};

// Prefill: `batch` prompts from arrival of the first to the first token of the last. Decode: the
// same prompts again (their KV is cached), from the moment when all of them decode to the end.
// Members: model, backend, isa, threads, batch, prompt_len, gen_len, prefill_tok_s, decode_tok_s,
// prefill_ms, decode_step_ms, load_ms; read_gb_s and int8_gop_s of the machine; decode_gb_s (weights
// and KV that the steps read), decode_bandwidth_share, prefill_gop_s, prefill_int8_share.
Result<json::object> RunEngineBench(const EngineBenchOptions& options);

}  // namespace baton::bench
