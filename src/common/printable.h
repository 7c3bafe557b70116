// Text from outside made fit for logs: UTF-8 stays as it is, control characters do not.
#pragma once

#include <string>
#include <string_view>

namespace baton {

// Appends `text` with C0 and C1 controls, DEL and bytes that are not UTF-8 as \n, \r, \t or \x1b. A
// backslash stays one, so an escape that was in the text already looks the same.
void AppendPrintable(std::string& out, std::string_view text);

// Appends `text` as a JSON string with its quotes: controls as \n, \r, \t or \u001b, and so bytes that
// are not UTF-8 (\u00ff), since they may be of any encoding.
void AppendJsonString(std::string& out, std::string_view text);

}  // namespace baton
