// The steps of a server's start: model, engine, text, metrics, fabric.
#pragma once

#include <boost/asio/any_io_executor.hpp>

#include "server/context.h"
#include "server/server.h"

namespace baton::server {

// Finds and loads model and tokenizer, makes the engine, registers metrics.
Result<std::unique_ptr<Context>> LoadContext(ServerOptions options, const StartProgress& progress);

// Opens the PD service of the context's role on `executor`.
Status OpenRole(Context& context, boost::asio::any_io_executor executor, const StartProgress& progress);

// "Prefill batch, ..." and "Decode batch, ..." lines with the role's queues. After OpenRole.
void SetBatchLog(Context& context);

}  // namespace baton::server
