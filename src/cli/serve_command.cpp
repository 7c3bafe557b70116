// `baton serve`.
#include <atomic>
#include <csignal>
#include <cstdio>

#include <unistd.h>

#include "api/errors.h"
#include "cli/commands.h"
#include "cli/serve_flags.h"
#include "common/log.h"
#include "server/server.h"

namespace baton::cli {
namespace {

std::atomic<server::Server*> g_server{nullptr};  // for the signal handler, which any thread may run

void OnSignal(int) {
  if (server::Server* const server = g_server.load()) server->RequestStop();
}

int Fail(const Status& status) {
  std::fprintf(stderr, "baton serve: %s\n", status.message().c_str());
  return api::RowOf(status.code()).exit_code;
}

// Progress for a parent process: one JSON object a line.
server::StartProgress ProgressTo(int fd) {
  return [fd](std::string_view stage, double fraction) {
    if (fd < 0) return;
    const std::string line = json::serialize(json::object{{"stage", stage}, {"fraction", fraction}}) + "\n";
    (void)!::write(fd, line.data(), line.size());
  };
}

}  // namespace

int RunServe(const std::vector<std::string>& arguments) {
  if (WantsHelp(arguments)) {
    std::printf("usage: baton serve --model-path M [flags]\n\n%s", DescribeFlags(ServeFlags()).c_str());
    return 0;
  }
  const auto values = ParseFlags(ServeFlags(), arguments);
  if (!values.ok()) return Fail(values.status());
  const std::string mode = values->Text("disaggregation-mode");
  log::Init(values->Text("log-level"), "TP0");
  auto options = MakeServerOptions(*values);
  if (!options.ok()) return Fail(options.status());
  std::signal(SIGPIPE, SIG_IGN);
  const int progress_fd = values->Has("progress-fd") ? static_cast<int>(values->Integer("progress-fd")) : -1;
  auto server = server::Server::Start(std::move(*options), ProgressTo(progress_fd));
  if (!server.ok()) return Fail(server.status());
  g_server = server->get();
  std::signal(SIGTERM, OnSignal);
  std::signal(SIGINT, OnSignal);
  (*server)->Run();
  g_server = nullptr;
  return 0;
}

}  // namespace baton::cli
