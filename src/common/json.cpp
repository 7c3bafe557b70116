#include "common/json.h"

#include <algorithm>
#include <charconv>
#include <limits>

#include <boost/json/basic_parser_impl.hpp>

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

namespace {

// Builds values as boost::json::parse does, except that floats are the nearest to their digits:
// Boost 1.81's own conversion is off by one unit in the last place for about one number in ten,
// which shows when a template writes it back.
class ValueHandler {
 public:
  static constexpr size_t max_object_size = std::numeric_limits<size_t>::max();
  static constexpr size_t max_array_size = std::numeric_limits<size_t>::max();
  static constexpr size_t max_key_size = std::numeric_limits<size_t>::max();
  static constexpr size_t max_string_size = std::numeric_limits<size_t>::max();

  using ErrorCode = boost::json::error_code;
  using Text = boost::json::string_view;

  bool on_document_begin(ErrorCode&) {
    stack_.reset();
    return true;
  }
  bool on_document_end(ErrorCode&) { return true; }
  bool on_object_begin(ErrorCode&) { return true; }
  bool on_object_end(size_t size, ErrorCode&) { return stack_.push_object(size), true; }
  bool on_array_begin(ErrorCode&) { return true; }
  bool on_array_end(size_t size, ErrorCode&) { return stack_.push_array(size), true; }
  bool on_key_part(Text text, size_t, ErrorCode&) { return stack_.push_chars(text), true; }
  bool on_key(Text text, size_t, ErrorCode&) { return stack_.push_key(text), true; }
  bool on_string_part(Text text, size_t, ErrorCode&) { return stack_.push_chars(text), true; }
  bool on_string(Text text, size_t, ErrorCode&) { return stack_.push_string(text), true; }
  bool on_number_part(Text text, ErrorCode&) {
    number_.append(text.data(), text.size());
    return true;
  }
  bool on_int64(int64_t number, Text, ErrorCode&) {
    number_.clear();
    return stack_.push_int64(number), true;
  }
  bool on_uint64(uint64_t number, Text, ErrorCode&) {
    number_.clear();
    return stack_.push_uint64(number), true;
  }
  bool on_double(double rough, Text text, ErrorCode&) {
    number_.append(text.data(), text.size());
    double number = rough;
    const auto parsed = std::from_chars(number_.data(), number_.data() + number_.size(), number);
    if (parsed.ec != std::errc()) number = rough;  // overflow and underflow
    number_.clear();
    return stack_.push_double(number), true;
  }
  bool on_bool(bool value, ErrorCode&) { return stack_.push_bool(value), true; }
  bool on_null(ErrorCode&) { return stack_.push_null(), true; }
  bool on_comment_part(Text, ErrorCode&) { return true; }
  bool on_comment(Text, ErrorCode&) { return true; }

  value Release() { return stack_.release(); }

 private:
  boost::json::value_stack stack_;
  std::string number_;  // the parts of a number so far
};

struct Failure {
  size_t offset = 0;
  std::string reason;
};

std::optional<value> ParseOr(std::string_view text, Failure* failure) {
  boost::json::parse_options options;
  options.max_depth = 64;
  boost::json::basic_parser<ValueHandler> parser(options);
  boost::json::error_code error;
  size_t consumed = 0;
  try {
    consumed = parser.write_some(false, text.data(), text.size(), error);
    if (!error && consumed < text.size()) {
      const auto rest = text.substr(consumed);
      if (rest.find_first_not_of(" \t\r\n") != rest.npos) {
        *failure = {consumed, "text after the value"};
        return std::nullopt;
      }
    }
    if (error) {
      *failure = {consumed, error.message()};
      return std::nullopt;
    }
    return parser.handler().Release();
  } catch (const std::exception& e) {
    *failure = {consumed, e.what()};
    return std::nullopt;
  }
}

}  // namespace

Result<value> Parse(std::string_view text) {
  Failure failure;
  if (auto parsed = ParseOr(text, &failure)) return std::move(*parsed);
  return Error(Code::kInvalidArgument, "invalid JSON at byte {}: {}", failure.offset, failure.reason);
}

Result<value> ParseFile(std::string_view place, std::string_view text) {
  Failure failure;
  if (auto parsed = ParseOr(text, &failure)) return std::move(*parsed);
  const std::string_view before = text.substr(0, failure.offset);
  const size_t line = 1 + static_cast<size_t>(std::count(before.begin(), before.end(), '\n'));
  const size_t line_begin = before.rfind('\n') + 1;  // npos + 1 is 0
  return Error(Code::kInvalidArgument, "{} line {}, column {}: invalid JSON: {}", place, line,
               before.size() - line_begin + 1, failure.reason);
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
