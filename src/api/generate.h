// Requests as they arrive, parsed into plain values: SGLang's native /generate and OpenAI's
// /v1/completions and /v1/chat/completions (specs/sglang-pd-protocol.md sections 2.3 and 2.4).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/resume.h"
#include "api/sampling.h"
#include "common/json.h"
#include "common/status.h"

namespace baton::api {

// A failed parse: what was wrong, and in which field (for OpenAI's "param").
struct RequestError {
  Status status;
  std::string param;
};

// Where the other half of a PD pair is; the router fills it in.
struct Bootstrap {
  std::string host;            // prefill's host; "2.2.2.2" means no peer at all (probes)
  std::optional<int> port;     // absent: the server's own --disaggregation-bootstrap-port
  int64_t room = -1;           // >= 1 (0 is taken from old routers); -1: not given
};
inline constexpr std::string_view kFakeBootstrapHost = "2.2.2.2";

struct LogprobOptions {
  bool enabled = false;
  int prompt_start = -1;       // logprob_start_len; -1: outputs only
  int top = 0;
  std::vector<int32_t> token_ids;
};

// One prompt: text, or ids that are taken as they are.
struct Prompt {
  std::optional<std::string> text;
  std::vector<int32_t> ids;
};

struct GenerateItem {
  Prompt prompt;
  SamplingParams sampling;
  LogprobOptions logprobs;
  std::string rid;
  Bootstrap bootstrap;
};

struct GenerateRequest {
  std::vector<GenerateItem> items;   // prompts in order, each n times
  bool is_list = false;              // the answer is a list (batch or n > 1)
  bool stream = false;
  bool text_in_logprobs = false;
  std::optional<Resume> resume;
};

// What chat and completions share.
struct OpenAiRequest {
  std::string model = "default";
  SamplingParams sampling;
  LogprobOptions logprobs;
  std::string rid;
  bool stream = false;
  bool include_usage = false;
  bool continuous_usage = false;
  bool return_timings = false;       // ours: adds "baton" timings to the usage
  std::vector<Bootstrap> bootstraps; // one per choice (prompts x n), or empty
  std::optional<Resume> resume;
};

struct CompletionRequest : OpenAiRequest {
  std::vector<Prompt> prompts;
  bool echo = false;
  std::string suffix;
};

struct ChatRequest : OpenAiRequest {
  json::value messages;
  json::value tools;
  json::object template_kwargs;
  bool add_generation_prompt = true;
  bool continue_final_message = false;
};

// `defaults` hold what the model's generation_config.json says. Unknown top-level keys are ignored,
// unknown keys of sampling_params are errors (as SGLang has it).
std::optional<RequestError> ParseGenerate(const json::value& body, const SamplingParams& defaults,
                                          GenerateRequest& out);
std::optional<RequestError> ParseCompletion(const json::value& body, const SamplingParams& defaults,
                                            CompletionRequest& out);
std::optional<RequestError> ParseChat(const json::value& body, const SamplingParams& defaults,
                                      ChatRequest& out);

// Random id of 32 hex digits.
std::string NewRequestId();

}  // namespace baton::api
