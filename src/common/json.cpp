#include "common/json.h"

namespace baton::json {

bool IsValidUtf8(std::string_view text) {
  const auto* p = reinterpret_cast<const unsigned char*>(text.data());
  const auto* end = p + text.size();
  const auto continues = [&](int i) { return p + i < end && (p[i] & 0xC0) == 0x80; };
  while (p < end) {
    if (*p < 0x80) {
      p += 1;
    } else if (*p >= 0xC2 && *p <= 0xDF && continues(1)) {
      p += 2;
    } else if ((*p & 0xF0) == 0xE0 && continues(1) && continues(2) &&
               (*p != 0xE0 || p[1] >= 0xA0) && (*p != 0xED || p[1] < 0xA0)) {
      p += 3;
    } else if (*p >= 0xF0 && *p <= 0xF4 && continues(1) && continues(2) && continues(3) &&
               (*p != 0xF0 || p[1] >= 0x90) && (*p != 0xF4 || p[1] < 0x90)) {
      p += 4;
    } else {
      return false;
    }
  }
  return true;
}

Result<value> Parse(std::string_view text) {
  boost::json::parse_options options;
  options.max_depth = 64;
  boost::json::stream_parser parser({}, options);
  boost::json::error_code error;
  size_t consumed = 0;
  try {
    consumed = parser.write_some(text, error);
    if (!error && consumed == text.size()) parser.finish(error);
    if (!error && consumed < text.size()) {
      return Error(Code::kInvalidArgument, "invalid JSON at byte {}: text after the value", consumed);
    }
    if (error) {
      return Error(Code::kInvalidArgument, "invalid JSON at byte {}: {}", consumed, error.message());
    }
    return parser.release();
  } catch (const std::exception& e) {
    return Error(Code::kInvalidArgument, "invalid JSON: {}", e.what());
  }
}

const value* Find(const object& from, std::string_view key) {
  const value* found = from.if_contains(key);
  return found && !found->is_null() ? found : nullptr;
}

std::string_view KindName(const value& v) {
  switch (v.kind()) {
    case boost::json::kind::null: return "null";
    case boost::json::kind::bool_: return "a boolean";
    case boost::json::kind::int64:
    case boost::json::kind::uint64: return "an integer";
    case boost::json::kind::double_: return "a number";
    case boost::json::kind::string: return "a string";
    case boost::json::kind::array: return "an array";
    case boost::json::kind::object: return "an object";
  }
  return "unknown";
}

}  // namespace baton::json
