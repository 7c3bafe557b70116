// `baton`: one binary, one subcommand per part.
#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "cli/bench_command.h"
#include "cli/bench_serving_command.h"
#include "cli/commands.h"
#include "cli/flag_suggestion.h"
#include "cli/router_command.h"
#include "cli/signals.h"
#include "common/version.h"

namespace {

constexpr const char* kUsage =
    "usage: baton COMMAND [flags]      (baton COMMAND --help tells the flags)\n"
    "\n"
    "  up           router, prefill and decode servers on this machine, with a chat page\n"
    "  serve        one server: --disaggregation-mode prefill, decode or null\n"
    "  router       fronts prefill and decode servers\n"
    "  chat         a conversation in the terminal\n"
    "  bench        engine: tokens per second; transfer: KV transfer; serving: load on an endpoint\n"
    "  render-chat  what a model would read for a chat request\n"
    "  version      which Baton this is (also --version)\n";

// Commands bound with CLI11 directly. `arguments` begins with the command's own name.
int RunBound(std::vector<std::string> arguments) {
  CLI::App app("Prefill and decode on separate machines", "baton");
  app.require_subcommand(1);
  int exit_code = 0;
  CLI::App* bench = app.add_subcommand("bench", "Measures parts of Baton");
  bench->require_subcommand(1);
  baton::cli::AddBenchEngineCommand(*bench, &exit_code);
  baton::cli::AddBenchServingCommand(*bench, &exit_code);
  baton::cli::AddBenchTransferCommand(*bench, &exit_code);
  baton::cli::AddRouterCommand(app, &exit_code);
  std::reverse(arguments.begin(), arguments.end());  // CLI11 takes them back to front
  try {
    app.parse(arguments);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  return exit_code;
}

}  // namespace

int main(int argc, char** argv) {
  baton::cli::DropLibrarySignalHandlers();
  const std::vector<std::string> all(argv + 1, argv + argc);
  if (all.empty() || all[0] == "--help" || all[0] == "-h" || all[0] == "help") {
    std::fputs(kUsage, all.empty() ? stderr : stdout);
    return all.empty() ? 2 : 0;
  }
  const std::string& command = all[0];
  const std::vector<std::string> rest(all.begin() + 1, all.end());
  if (command == "serve") return baton::cli::RunServe(rest);
  if (command == "up") return baton::cli::RunUp(rest);
  if (command == "chat") return baton::cli::RunChat(rest);
  if (command == "render-chat") return baton::cli::RunRenderChat(rest);
  if (command == "router" || command == "bench") return RunBound(all);
  if (command == "version" || command == "--version") {
    std::puts(("baton " + std::string(baton::kVersion)).c_str());
    return 0;
  }
  const std::string near = baton::cli::Nearest(command, {"up", "serve", "router", "chat", "bench", "render-chat"});
  std::fprintf(stderr, "baton: unknown command \"%s\"%s\n\n%s", command.c_str(),
               near.empty() ? "" : (", did you mean \"" + near + "\"?").c_str(), kUsage);
  return 2;
}
