// Writes the head of a response. Framing and connection fields are always the server's own; a
// handler's fields of those names are dropped, and bytes that would split the response become
// spaces.
#pragma once

#include <optional>
#include <string>

#include "http/message.h"

namespace baton::http {

enum class BodyFraming { kLength, kChunked, kUntilClose, kNone };

struct HeadOptions {
  BodyFraming framing = BodyFraming::kLength;
  uint64_t length = 0;
  bool close = false;
  std::string_view more;  // further field lines, each with its CRLF
};

// Appends status line, fields and the blank line to `out`.
void AppendResponseHead(std::string& out, int status, const Headers& headers,
                        const HeadOptions& options);

// Appends one field line; used for requests too.
void AppendField(std::string& out, std::string_view name, std::string_view value);
void AppendNumber(std::string& out, uint64_t value);
// Fields that belong to one connection and are never copied from a caller.
bool IsFramingField(std::string_view name);

}  // namespace baton::http
