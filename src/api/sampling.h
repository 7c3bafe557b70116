// How to sample: the union of OpenAI's and SGLang's parameters, checked at the door.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/status.h"

namespace baton::api {

// Order of operations and meaning: specs/engine.md section 5 (logit bias, repetition, frequency and
// presence penalties, temperature, min_p, top_k, top_p).
struct SamplingParams {
  int max_new_tokens = 128;        // -1: up to the context
  int min_new_tokens = 0;          // until then end tokens and stop ids cannot be sampled
  float temperature = 1.0f;        // below 1e-6: greedy
  float top_p = 1.0f;
  int top_k = -1;                  // -1 or 0: off
  float min_p = 0.0f;
  float frequency_penalty = 0.0f;
  float presence_penalty = 0.0f;
  float repetition_penalty = 1.0f;
  std::vector<std::pair<int32_t, float>> logit_bias;
  std::optional<uint64_t> seed;    // absent: drawn per request
  bool ignore_eos = false;
  std::vector<int32_t> stop_token_ids;
  // Text side, applied where text is made:
  std::vector<std::string> stop;
  bool no_stop_trim = false;       // keep the stop string in the output
  bool skip_special_tokens = true;
  int n = 1;
};

// kInvalidArgument names the field, the value and the allowed range. `vocab` bounds token ids.
Status Validate(const SamplingParams& params, int vocab);

}  // namespace baton::api
