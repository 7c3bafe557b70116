// `baton bench serving`: flags to options, tokenizer, live line, reports to terminal and files.
#pragma once

#include <CLI/CLI.hpp>

namespace baton::cli {

// Adds `serving` below `bench`. When it is chosen, its exit code is stored in `*exit_code`, which
// must outlive the parse.
void AddBenchServingCommand(CLI::App& bench, int* exit_code);

}  // namespace baton::cli
