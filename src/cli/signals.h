// What signals do before a command says otherwise.
#pragma once

namespace baton::cli {

// Debian's libfabric brings libinfinipath, which sets handlers for SIGINT, SIGTERM and every crash when it
// is loaded. They call exit(), so that destructors run in a signal handler under threads that go on:
// a crash leaves no core file, and a stop while a server starts may end in a crash or never. The
// default action comes back; handlers of others (sanitizers) stay. Call first in main.
void DropLibrarySignalHandlers();

}  // namespace baton::cli
