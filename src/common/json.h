// Boost.JSON with our limits and error style. `json::` is the one JSON library of the project.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include <boost/json.hpp>

#include "common/status.h"

namespace baton::json {

using boost::json::array;
using boost::json::object;
using boost::json::serialize;
using boost::json::string;
using boost::json::value;

// Depth 64; integers stay int64/uint64 (bootstrap rooms are 63-bit); invalid UTF-8 is refused.
// kInvalidArgument names the byte offset and the reason.
Result<value> Parse(std::string_view text);
// For files: kInvalidArgument names `place`, line and column instead.
Result<value> ParseFile(std::string_view place, std::string_view text);

// `object[key]`, or nullptr when it is absent or null.
const value* Find(const object& from, std::string_view key);

// "a string", "an integer", "an object" ...: for messages about wrong types.
std::string_view KindName(const value& v);

// True when `text` is well-formed UTF-8 (no surrogates, no overlong forms).
bool IsValidUtf8(std::string_view text);

}  // namespace baton::json
