#include "cli/signals.h"

#include <csignal>
#include <string_view>

#include <dlfcn.h>

namespace baton::cli {

void DropLibrarySignalHandlers() {
  for (const int number : {SIGINT, SIGTERM, SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV}) {
    struct sigaction action {};
    if (::sigaction(number, nullptr, &action) != 0) continue;
    if (action.sa_handler == SIG_DFL || action.sa_handler == SIG_IGN) continue;
    Dl_info place{};
    if (::dladdr(reinterpret_cast<const void*>(action.sa_handler), &place) == 0 || !place.dli_fname) continue;
    if (std::string_view(place.dli_fname).find("libinfinipath") != std::string_view::npos) std::signal(number, SIG_DFL);
  }
}

}  // namespace baton::cli
