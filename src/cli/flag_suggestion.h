// "Did you mean --port?": the known flag nearest to an unknown one.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <CLI/CLI.hpp>

namespace baton::cli {

// Number of single-character insertions, deletions and replacements from `a` to `b` (Levenshtein).
size_t EditDistance(std::string_view a, std::string_view b);

// The nearest of `names` to `word`, or "" when none is near.
std::string Nearest(std::string_view word, const std::vector<std::string>& names);

// The long flag of `command` nearest to `unknown` ("--prot" or "--prot=1"), or "" when none is near.
std::string NearestFlag(const CLI::App& command, std::string_view unknown);

// For the callback of a command that allows extras: "" when `command` left nothing unread, else a
// message that names the first unknown argument and the nearest flag.
std::string UnknownArgumentMessage(const CLI::App& command);

}  // namespace baton::cli
