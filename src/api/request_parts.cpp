#include "api/request_parts.h"

#include <charconv>
#include <random>

namespace baton::api {
namespace {

void ReadLogitBias(FieldReader& reader, SamplingParams& out) {
  const json::value* v = reader.Take("logit_bias");
  if (!v) return;
  if (!v->is_object()) return reader.Wrong("logit_bias", "an object of token id to bias", *v);
  for (const auto& entry : v->get_object()) {
    int32_t id = 0;
    const auto* begin = entry.key().data();
    const auto* end = begin + entry.key().size();
    const auto parsed = std::from_chars(begin, end, id);
    if (parsed.ec != std::errc() || parsed.ptr != end || id < 0) {
      return reader.Fail(Error(Code::kInvalidArgument, "logit_bias key \"{}\" is not a token id",
                               std::string_view(entry.key())), "logit_bias");
    }
    const auto bias = AsNumber(entry.value());
    if (!bias) return reader.Wrong("logit_bias", "numbers", entry.value());
    out.logit_bias.emplace_back(id, static_cast<float>(*bias));
  }
}

}  // namespace

void ReadCommonSampling(FieldReader& reader, SamplingParams& out) {
  reader.Float("temperature", out.temperature);
  reader.Float("top_p", out.top_p);
  reader.Integer("top_k", out.top_k);
  reader.Float("min_p", out.min_p);
  reader.Float("frequency_penalty", out.frequency_penalty);
  reader.Float("presence_penalty", out.presence_penalty);
  reader.Float("repetition_penalty", out.repetition_penalty);
  reader.Bool("ignore_eos", out.ignore_eos);
  reader.Bool("no_stop_trim", out.no_stop_trim);
  reader.Bool("include_stop_str_in_output", out.no_stop_trim);
  reader.Bool("skip_special_tokens", out.skip_special_tokens);
  reader.TokenIds("stop_token_ids", out.stop_token_ids);
  reader.Strings("stop", out.stop, kMaxStops);
  for (const std::string& stop : out.stop) {
    if (stop.empty()) reader.Fail(Error(Code::kInvalidArgument, "stop strings must not be empty"), "stop");
  }
  for (const char* key : {"seed", "sampling_seed"}) {
    if (!reader.Take(key)) continue;
    int64_t seed = 0;
    reader.Integer(key, seed);
    out.seed = static_cast<uint64_t>(seed);
  }
  ReadLogitBias(reader, out);
}

void RefuseUnsupported(FieldReader& reader) {
  for (const char* key : {"json_schema", "regex", "ebnf", "structural_tag", "stop_regex", "input_embeds",
                          "image_data", "video_data", "audio_data", "lora_path",
                          "custom_logit_processor", "session_params"}) {
    const json::value* v = reader.Take(key);
    const bool empty = v && ((v->is_array() && v->get_array().empty()) ||
                             (v->is_string() && v->get_string().empty()));
    if (v && !empty) {
      return reader.Fail(Error(Code::kInvalidArgument, "{} is not supported by this server; leave it out",
                               key), key);
    }
  }
}

void ReadBootstraps(FieldReader& reader, size_t count, std::vector<Bootstrap>& out) {
  const json::value* room = reader.Take("bootstrap_room");
  const json::value* host = reader.Take("bootstrap_host");
  const json::value* port = reader.Take("bootstrap_port");
  if (!room && !host && !port) return;
  // Element i of a list, or the scalar for all.
  const auto pick = [&](const json::value* v, size_t i, const char* key) -> const json::value* {
    if (!v || !v->is_array()) return v;
    const json::array& list = v->get_array();
    if (list.empty() || count % list.size() != 0) {
      reader.Fail(Error(Code::kInvalidArgument, "{} has {} entries for {} sequences", key, list.size(),
                        count), key);
      return nullptr;
    }
    return &list[i / (count / list.size())];  // an entry per prompt serves all its samples
  };
  for (size_t i = 0; i < count && reader.status().ok(); ++i) {
    Bootstrap b;
    if (const json::value* v = pick(host, i, "bootstrap_host"); v && !v->is_null()) {
      if (!v->is_string()) return reader.Wrong("bootstrap_host", "a string or an array of strings", *v);
      b.host = v->get_string();
    }
    if (const json::value* v = pick(port, i, "bootstrap_port"); v && !v->is_null()) {
      const auto n = AsInteger(*v);
      if (!n || *n < 1 || *n > 65535) return reader.Wrong("bootstrap_port", "a port (1 to 65535)", *v);
      b.port = static_cast<int>(*n);
    }
    if (const json::value* v = pick(room, i, "bootstrap_room"); v && !v->is_null()) {
      const auto n = AsInteger(*v);
      if (!n || *n < 0) return reader.Wrong("bootstrap_room", "a 63-bit number", *v);
      // One room for several sequences (a scalar, or one per prompt with n > 1) stands for room,
      // room + 1, ...: every sequence needs its own.
      const size_t given = room->is_array() ? room->get_array().size() : 1;
      const auto offset = static_cast<int64_t>(i % (count / given));
      b.room = *n <= std::numeric_limits<int64_t>::max() - offset ? *n + offset : *n - offset;
    }
    out.push_back(std::move(b));
  }
}

std::string NewRequestId() {
  thread_local std::mt19937_64 engine{std::random_device{}()};
  return fmt::format("{:016x}{:016x}", engine(), engine());
}

}  // namespace baton::api
