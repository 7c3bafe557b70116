// The three APIs as bytes: request bodies, and what an event of an answer says.
//
// No I/O and no clock. An EventReader belongs to one thread and is shared by all its streams: its
// JSON arena is reused, so reading an event allocates nothing.
#pragma once

#include <boost/json/monotonic_resource.hpp>
#include <boost/json/parser.hpp>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bench/serving/text.h"
#include "common/json.h"
#include "common/status.h"

namespace baton::bench::serving {

enum class Api : uint8_t { kChat, kCompletions, kGenerate };

// --backend: SGLang's and vLLM's names, and the plain ones (chat, completions, generate).
Result<Api> ParseApi(std::string_view text);
std::string_view ApiName(Api api);
std::string_view DefaultPath(Api api);

struct BodyOptions {
  Api api = Api::kChat;
  std::string model;
  bool stream = true;
  bool ignore_eos = false;
  double temperature = 0;
  bool send_ids = false;  // prompts as token ids (kCompletions, kGenerate); needs an encoder
  json::object extra;     // members that are added or replace ours
};

// What was said so far; the last message is the user's.
struct Message {
  bool from_user = true;
  std::string text;
};

// kInvalidArgument when ids are asked for and the text cannot be encoded.
Result<std::string> MakeBody(const BodyOptions& options, const std::vector<Message>& messages,
                             int output_tokens, const Encoder& encoder);

// What one event, or a whole answer, told.
struct EventFacts {
  bool has_output = false;  // text, reasoning, a tool call or ids came
  bool finished = false;    // a finish reason
  std::string_view text;    // of this event; all so far when text_is_whole. Until the next Read
  bool text_is_whole = false;
  std::optional<int> prompt_tokens, output_tokens,
      cached_tokens;  // cumulative, as the server counts
  std::optional<std::string> error;
};

class EventReader {
 public:
  explicit EventReader(Api api);
  // kDataCorrupt: not JSON, or not this API's shape.
  Result<EventFacts> Read(std::string_view payload);

 private:
  Status ReadOpenAi(const json::object& event, EventFacts* facts) const;
  Status ReadNative(const json::object& event, EventFacts* facts) const;

  static constexpr size_t kArenaBytes = 16 << 10;
  Api api_;
  std::unique_ptr<unsigned char[]> arena_;
  boost::json::monotonic_resource memory_;
  boost::json::parser parser_;
  json::value event_;
};

// The message of an error body, or its first bytes.
std::string ErrorText(std::string_view body);

}  // namespace baton::bench::serving
