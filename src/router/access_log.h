// One JSON object a line for every request that a client sent: who, what, how it ended, how long it
// took, which workers. Written by a thread of its own (common/line_writer.h).
#pragma once

#include <string>
#include <string_view>

#include "common/line_writer.h"
#include "http/server.h"

namespace baton::router {

// The line, without its end. `unix_s` is the time of writing. The query is left out: it may carry
// keys. `outcome.note` holds further members: ,"name":value ...
std::string AccessLine(const http::Request& request, const http::Outcome& outcome, double unix_s);

// Probes and scrapes that went well are not logged.
bool IsLogged(const http::Request& request, const http::Outcome& outcome);

}  // namespace baton::router
