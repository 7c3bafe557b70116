// A small OpenAI chat client: streams one answer to a callback. For `baton chat` and `baton up`.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "common/clock.h"
#include "common/json.h"
#include "common/status.h"

namespace baton::cli {

struct ChatAnswer {
  std::string text;
  json::object usage;       // with "baton" timings when the server is ours
  std::string finish_reason;
  double ttft_ms = 0;       // as the client saw it
};

// Sends `messages` to options.url + /v1/chat/completions and calls `on_text` with each piece as it comes.
struct ChatOptions {
  std::string url;
  std::string model = "default";
  int max_tokens = 1024;
  double temperature = 0;
};
Result<ChatAnswer> StreamChat(const ChatOptions& options, const json::array& messages, const std::function<void(std::string_view)>& on_text, Duration limit);

// GET `url``path`: status and body.
struct HttpAnswer { int status; std::string body; };
Result<HttpAnswer> HttpGet(const std::string& url, const std::string& path, Duration limit);

// "TTFT 35 ms, 120.1 tokens/s, prefill 20 ms, KV 1.1 MB in 0.4 ms, 16 cached tokens".
std::string DescribeTimings(const ChatAnswer& answer);

}  // namespace baton::cli
