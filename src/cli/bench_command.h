// `baton bench engine` and `baton bench transfer`: flags to options, and the result printed for
// people or as JSON.
#pragma once

#include <CLI/CLI.hpp>

namespace baton::cli {

// Add themselves below `bench` (the app or its "bench" subcommand). When one is chosen, its exit
// code is stored in `*exit_code`, which must outlive the parse.
void AddBenchEngineCommand(CLI::App& bench, int* exit_code);
void AddBenchTransferCommand(CLI::App& bench, int* exit_code);

}  // namespace baton::cli
