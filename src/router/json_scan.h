// A validating walk over JSON text that reports where things are and builds nothing.
//
// The router must not change a byte of what a client sent, so it cannot parse and print: it looks
// for a few members and splices bytes. The grammar is RFC 8259 with no extensions; invalid UTF-8
// and nesting beyond kMaxJsonDepth are refused. Of repeated keys all are reported, in order.
// Pure functions; safe from any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "common/status.h"

namespace baton::router {

inline constexpr int kMaxJsonDepth = 128;

enum class JsonKind : uint8_t { kNull, kFalse, kTrue, kNumber, kString, kArray, kObject };

// Offsets are into the scanned text, ends exclusive.
struct JsonMember {
  std::string_view raw_key;  // between the quotes, escapes not resolved
  JsonKind kind = JsonKind::kNull;
  size_t separator = 0;  // the comma before this member; for the first one the byte after '{'
  size_t begin = 0;      // of the value
  size_t end = 0;

  bool KeyIs(std::string_view key) const;
};

struct JsonElement {
  JsonKind kind = JsonKind::kNull;
  size_t begin = 0;
  size_t end = 0;
};

// Walks the whole text, which must be one object. kInvalidArgument names byte offset and reason;
// members seen before the error have been reported by then.
Status ScanObject(std::string_view text, const std::function<void(const JsonMember&)>& on_member);
// The same for one array.
Status ScanArray(std::string_view text, const std::function<void(const JsonElement&)>& on_element);

// The value of an integer literal ("12", not "12.0"), if it fits.
std::optional<int64_t> JsonInteger(std::string_view literal);
// The text of a string literal, quotes included in `literal`.
std::string JsonString(std::string_view literal);

// First byte that is not JSON white space, or text.size().
size_t SkipJsonSpace(std::string_view text, size_t at = 0);

}  // namespace baton::router
