// `baton router`: sglang-router's flags to RouterOptions, and the life of the process around it.
#pragma once

#include <CLI/CLI.hpp>

namespace baton::cli {

// Adds `router` below `app`. When it is chosen it runs until SIGINT or SIGTERM (a second one ends
// it at once); its exit code is stored in `*exit_code`, which must outlive the parse: 0 after a
// clean end, 1 when it could not start, 2 for a wrong or unknown flag.
void AddRouterCommand(CLI::App& app, int* exit_code);

}  // namespace baton::cli
