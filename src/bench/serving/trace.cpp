#include "bench/serving/trace.h"

#include <algorithm>
#include <cmath>

#include "common/json.h"

namespace baton::bench::serving {
namespace {

constexpr double kMaxTokens = 1 << 24;
constexpr double kMaxAtMs = 1e12;

Result<double> NumberIn(const json::object& from, std::string_view key, double high) {
  const json::value* v = json::Find(from, key);
  if (v == nullptr) return Error(Code::kDataCorrupt, "no \"{}\"", key);
  if (!v->is_number())
    return Error(Code::kDataCorrupt, "\"{}\" is {}, not a number", key, json::KindName(*v));
  const double number = v->to_number<double>();
  if (!(number >= 0 && number <= high))
    return Error(Code::kDataCorrupt, "\"{}\" is not in [0, {:.0f}]", key, high);
  return number;
}

Status AddHashes(const json::object& from, Trace* trace, TraceRequest* request) {
  request->first_hash = trace->hashes.size();
  const json::value* list = json::Find(from, "hash_ids");
  if (list == nullptr) return Status::Ok();
  if (!list->is_array())
    return Error(Code::kDataCorrupt, "\"hash_ids\" is {}, not an array", json::KindName(*list));
  for (const json::value& id : list->get_array()) {
    if (!id.is_int64() && !id.is_uint64())
      return Error(Code::kDataCorrupt, "\"hash_ids\" holds {}", json::KindName(id));
    trace->hashes.push_back(id.is_int64() ? static_cast<uint64_t>(id.get_int64())
                                          : id.get_uint64());
  }
  request->hash_count = list->get_array().size();
  return Status::Ok();
}

Status AddLine(std::string_view line, Trace* trace) {
  const auto parsed = json::Parse(line);
  if (!parsed.ok()) return Error(Code::kDataCorrupt, "{}", parsed.status().message());
  if (!parsed->is_object())
    return Error(Code::kDataCorrupt, "{}, not an object", json::KindName(*parsed));
  const json::object& from = parsed->get_object();
  TraceRequest request;
  const auto input = NumberIn(from, "input_length", kMaxTokens);
  if (!input.ok()) return input.status();
  const auto output = NumberIn(from, "output_length", kMaxTokens);
  if (!output.ok()) return output.status();
  const auto at = NumberIn(from, "timestamp", kMaxAtMs);
  if (!at.ok()) return at.status();
  request.at_ms = *at;
  request.input_tokens = static_cast<int>(*input);
  request.output_tokens = static_cast<int>(*output);
  if (Status s = AddHashes(from, trace, &request); !s.ok()) return s;
  trace->requests.push_back(request);
  return Status::Ok();
}

std::string_view TakeLine(std::string_view* text) {
  const size_t end = text->find('\n');
  std::string_view line = text->substr(0, end);
  text->remove_prefix(end == std::string_view::npos ? text->size() : end + 1);
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

bool IsSpace(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

// The end of the object that begins at text[at] == '{', or npos. Brackets in strings do not count.
size_t ObjectEnd(std::string_view text, size_t at) {
  size_t depth = 0;
  bool in_string = false;
  for (; at < text.size(); ++at) {
    const char c = text[at];
    if (in_string) {
      if (c == '\\') ++at;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{') {
      ++depth;
    } else if (c == '}' && --depth == 0) {
      return at + 1;
    }
  }
  return std::string_view::npos;
}

std::string_view TextOf(const json::object& from, std::initializer_list<std::string_view> keys) {
  for (const std::string_view key : keys) {
    const json::value* v = json::Find(from, key);
    if (v && v->is_string()) return v->get_string();
  }
  return {};
}

enum class Speaker : uint8_t { kUser, kAssistant, kOther };

Speaker SpeakerOf(std::string_view name) {
  if (name == "human" || name == "user") return Speaker::kUser;
  if (name == "gpt" || name == "assistant" || name == "chatgpt" || name == "bing" || name == "bard")
    return Speaker::kAssistant;
  return Speaker::kOther;
}

}  // namespace

Result<Trace> ParseMooncakeTrace(std::string_view text, size_t max_requests) {
  Trace trace;
  for (size_t number = 1; !text.empty(); ++number) {
    if (max_requests && trace.requests.size() == max_requests) break;
    const std::string_view line = TakeLine(&text);
    if (std::all_of(line.begin(), line.end(), IsSpace)) continue;
    if (Status s = AddLine(line, &trace); !s.ok())
      return s.Prefixed(fmt::format("line {}", number));
  }
  if (trace.requests.empty()) return Error(Code::kDataCorrupt, "the trace holds no request");
  std::stable_sort(trace.requests.begin(), trace.requests.end(),
                   [](const TraceRequest& a, const TraceRequest& b) { return a.at_ms < b.at_ms; });
  const double start = trace.requests.front().at_ms;
  for (TraceRequest& r : trace.requests) r.at_ms -= start;
  return trace;
}

Result<std::vector<std::string_view>> SplitObjects(std::string_view text) {
  std::vector<std::string_view> objects;
  size_t at = 0;
  if (text.starts_with("\xEF\xBB\xBF")) at = 3;
  const auto skip = [&](std::string_view also) {
    while (at < text.size() && (IsSpace(text[at]) || also.find(text[at]) != std::string_view::npos))
      ++at;
  };
  skip("");
  const bool array = at < text.size() && text[at] == '[';
  if (array) ++at;
  while (true) {
    skip(array ? "," : "");
    if (at == text.size() || (array && text[at] == ']')) break;
    if (text[at] != '{') return Error(Code::kDataCorrupt, "byte {}: expected an object", at);
    const size_t end = ObjectEnd(text, at);
    if (end == std::string_view::npos)
      return Error(Code::kDataCorrupt, "byte {}: an object without an end", at);
    objects.push_back(text.substr(at, end - at));
    at = end;
  }
  if (array && at == text.size()) return Error(Code::kDataCorrupt, "the array has no end");
  if (objects.empty()) return Error(Code::kDataCorrupt, "the file holds no object");
  return objects;
}

Result<std::vector<Exchange>> ParseConversation(std::string_view element) {
  const auto parsed = json::Parse(element);
  if (!parsed.ok()) return Error(Code::kDataCorrupt, "{}", parsed.status().message());
  if (!parsed->is_object())
    return Error(Code::kDataCorrupt, "{}, not an object", json::KindName(*parsed));
  const json::value* list = nullptr;
  for (const std::string_view key : {"conversations", "conversation", "messages"}) {
    if (list == nullptr) list = json::Find(parsed->get_object(), key);
  }
  if (list == nullptr || !list->is_array()) {
    return Error(Code::kDataCorrupt,
                 "no array \"conversations\", \"conversation\" or \"messages\"");
  }
  std::vector<Exchange> exchanges;
  std::optional<std::string> question;
  for (const json::value& turn : list->get_array()) {
    if (!turn.is_object())
      return Error(Code::kDataCorrupt, "a turn is {}, not an object", json::KindName(turn));
    const Speaker speaker = SpeakerOf(TextOf(turn.get_object(), {"from", "role"}));
    const std::string_view text = TextOf(turn.get_object(), {"value", "content"});
    if (text.empty()) continue;
    if (speaker == Speaker::kUser) question = text;
    if (speaker == Speaker::kAssistant && question) {
      exchanges.push_back({std::move(*question), std::string(text)});
      question.reset();
    }
  }
  return exchanges;
}

}  // namespace baton::bench::serving
