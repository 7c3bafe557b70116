// The flags of `baton serve`: SGLang's launch_server flags and ours
// (specs/sglang-pd-protocol.md section 1.1).
#pragma once

#include <string>
#include <vector>

#include "cli/flags.h"
#include "server/options.h"

namespace baton::cli {

const std::vector<Flag>& ServeFlags();
// Turns values into options; logs one line per flag that was given but has no effect.
Result<server::ServerOptions> MakeServerOptions(const FlagValues& values);

}  // namespace baton::cli
