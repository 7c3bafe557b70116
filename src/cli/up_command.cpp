// `baton up`: router, prefill and decode servers on this machine, from one command.
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <map>
#include <thread>

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli/chat_client.h"
#include "cli/child_process.h"
#include "cli/commands.h"
#include "cli/flags.h"

namespace baton::cli {
namespace {

const std::vector<Flag> kFlags = {
    {"model-path", FlagKind::kString, "", "GGUF file, folder, or hub id in the local cache (required)", {"model"}},
    {"prefill", FlagKind::kInteger, "1", "prefill servers"},
    {"decode", FlagKind::kInteger, "1", "decode servers"},
    {"host", FlagKind::kString, "127.0.0.1", "address of the router"},
    {"port", FlagKind::kInteger, "8000", "port of the router and of the chat page"},
    {"transfer-provider", FlagKind::kString, "auto", "auto, efa, tcp or shm", {}, true, {"auto", "efa", "tcp", "shm"}},
    {"threads", FlagKind::kInteger, "0", "compute threads per server; 0: cores shared out evenly"},
    {"served-model-name", FlagKind::kString, "", "name in /v1/models; default: the file's name"},
    {"log-dir", FlagKind::kString, "", "where the servers' logs go; default: a new folder in /tmp"},
    {"start-timeout", FlagKind::kInteger, "300", "seconds until everything must be ready"},
    {"ask", FlagKind::kString, "", "ask this question when all is ready"},
    {"once", FlagKind::kSwitch, "", "stop after the question (exit code tells whether it was answered)"},
};

volatile std::sig_atomic_t g_stop = 0;
void OnSignal(int) { g_stop = 1; }

// A port that was free a moment ago.
uint16_t FreePort() {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  uint16_t port = 0;
  if (::bind(fd, reinterpret_cast<sockaddr*>(&address), size) == 0 &&
      ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0) {
    port = ntohs(address.sin_port);
  }
  ::close(fd);
  return port;
}

// Prints one line per change of a server's state; percentages only on a terminal.
class ProgressPrinter {
 public:
  void Feed(const std::string& server, std::string_view bytes) {
    std::string& buffer = buffers_[server];
    buffer += bytes;
    size_t end;
    while ((end = buffer.find('\n')) != std::string::npos) {
      Line(server, buffer.substr(0, end));
      buffer.erase(0, end + 1);
    }
  }
  bool Ready(const std::string& server) const { return ready_.count(server) > 0; }

 private:
  void Line(const std::string& server, const std::string& text) {
    const auto parsed = json::Parse(text);
    if (!parsed.ok() || !parsed->is_object()) return;
    const std::string stage(parsed->at("stage").as_string());
    const double fraction = parsed->at("fraction").to_number<double>();
    if (stage == "ready") ready_[server] = true;
    const int percent = static_cast<int>(fraction * 100);
    std::string& last = last_[server];
    const std::string now = stage == "loading model" ? fmt::format("{} {}%", stage, percent / 25 * 25) : stage;
    if (now == last) return;
    last = now;
    std::printf("  %-10s %s\n", server.c_str(), now.c_str());
    std::fflush(stdout);
  }
  std::map<std::string, std::string> buffers_, last_;
  std::map<std::string, bool> ready_;
};

class Cluster {
 public:
  explicit Cluster(const FlagValues& flags) : flags_(flags) {}

  Status Start();
  Status WaitReady();
  // Runs until a signal (OK) or until a server ends by itself.
  Status Watch();
  void Stop();
  std::string url() const {
    const std::string host = flags_.Text("host") == "0.0.0.0" ? "127.0.0.1" : flags_.Text("host");
    return fmt::format("http://{}:{}", host, flags_.Integer("port"));
  }

 private:
  Status StartServer(const std::string& name, const std::string& mode, uint16_t port, uint16_t bootstrap);
  Status StartRouter();
  Status CheckAlive();
  void Pump(std::chrono::milliseconds wait);

  const FlagValues& flags_;
  std::string log_dir_;
  std::vector<ChildProcess> children_;
  std::vector<std::pair<uint16_t, uint16_t>> prefills_;  // HTTP, bootstrap
  std::vector<uint16_t> decodes_;
  ProgressPrinter progress_;
};

Status Cluster::StartServer(const std::string& name, const std::string& mode, uint16_t port, uint16_t bootstrap) {
  const int64_t servers = flags_.Integer("prefill") + flags_.Integer("decode");
  const int64_t cores = std::max(1u, std::thread::hardware_concurrency());
  const int64_t threads = flags_.Integer("threads") > 0 ? flags_.Integer("threads") : std::max<int64_t>(1, cores / servers);
  const std::string model = flags_.Text("model-path");
  const std::string served = flags_.Has("served-model-name") ? flags_.Text("served-model-name")
                                                             : std::filesystem::path(model).stem().string();
  auto child = ChildProcess::Start(
      name, {"serve", "--model-path", model, "--served-model-name", served, "--disaggregation-mode", mode, "--port",
             std::to_string(port), "--disaggregation-bootstrap-port", std::to_string(bootstrap), "--transfer-provider",
             flags_.Text("transfer-provider"), "--threads", std::to_string(threads), "--enable-cache-report"},
      log_dir_ + "/" + name + ".log", true);
  if (!child.ok()) return child.status();
  children_.push_back(std::move(*child));
  return Status::Ok();
}

Status Cluster::StartRouter() {
  std::vector<std::string> arguments = {"router", "--pd-disaggregation", "--host", flags_.Text("host"), "--port",
                                        std::to_string(flags_.Integer("port")), "--prometheus-port", std::to_string(FreePort())};
  for (const auto& [port, bootstrap] : prefills_) {
    arguments.insert(arguments.end(), {"--prefill", fmt::format("http://127.0.0.1:{}", port), std::to_string(bootstrap)});
  }
  for (const uint16_t port : decodes_) {
    arguments.insert(arguments.end(), {"--decode", fmt::format("http://127.0.0.1:{}", port)});
  }
  auto child = ChildProcess::Start("router", std::move(arguments), log_dir_ + "/router.log", false);
  if (!child.ok()) return child.status();
  children_.push_back(std::move(*child));
  return Status::Ok();
}

Status Cluster::Start() {
  log_dir_ = flags_.Text("log-dir");
  if (log_dir_.empty()) {
    char pattern[] = "/tmp/baton-XXXXXX";
    if (!::mkdtemp(pattern)) return Error(Code::kInternal, "cannot make a folder for logs in /tmp");
    log_dir_ = pattern;
  }
  std::error_code error;
  std::filesystem::create_directories(log_dir_, error);
  std::printf("Starting %lld prefill and %lld decode servers and a router; logs in %s\n",
              static_cast<long long>(flags_.Integer("prefill")), static_cast<long long>(flags_.Integer("decode")), log_dir_.c_str());
  for (int64_t i = 0; i < flags_.Integer("prefill"); ++i) {
    const uint16_t port = FreePort(), bootstrap = FreePort();
    prefills_.emplace_back(port, bootstrap);
    if (Status s = StartServer(fmt::format("prefill-{}", i), "prefill", port, bootstrap); !s.ok()) return s;
  }
  for (int64_t i = 0; i < flags_.Integer("decode"); ++i) {
    decodes_.push_back(FreePort());
    if (Status s = StartServer(fmt::format("decode-{}", i), "decode", decodes_.back(), 8998); !s.ok()) return s;
  }
  return StartRouter();
}

void Cluster::Pump(std::chrono::milliseconds wait) {
  std::vector<pollfd> fds;
  for (const ChildProcess& child : children_) fds.push_back({child.progress_fd(), POLLIN, 0});
  if (::poll(fds.data(), fds.size(), static_cast<int>(wait.count())) <= 0) return;
  bool read_any = false;
  for (size_t i = 0; i < fds.size(); ++i) {
    if (!(fds[i].revents & POLLIN)) continue;
    char buffer[4096];
    const ssize_t n = ::read(fds[i].fd, buffer, sizeof buffer);
    if (n > 0) {
      progress_.Feed(children_[i].name(), std::string_view(buffer, n));
      read_any = true;
    }
  }
  if (!read_any) std::this_thread::sleep_for(wait);  // only hang-ups: do not spin
}

Status Cluster::CheckAlive() {
  for (ChildProcess& child : children_) {
    std::string how;
    if (!child.Ended(how)) continue;
    return Error(Code::kUnavailable, "{} ended with {}. The end of its log ({}):\n{}", child.name(), how, child.log_path(),
                 LogTail(child.log_path(), 8));
  }
  return Status::Ok();
}

Status Cluster::WaitReady() {
  const TimePoint limit = Now() + std::chrono::seconds(flags_.Integer("start-timeout"));
  bool all_ready = false;
  while (!g_stop) {
    Pump(50ms);
    if (Status s = CheckAlive(); !s.ok()) return s;
    if (Now() > limit) return Error(Code::kDeadlineExceeded, "not ready within --start-timeout; logs in {}", log_dir_);
    all_ready = true;
    for (const ChildProcess& child : children_) {
      if (child.progress_fd() >= 0 && !progress_.Ready(child.name())) all_ready = false;
    }
    if (!all_ready) continue;
    const auto readiness = HttpGet(url(), "/readiness", 1s);
    if (readiness.ok() && readiness->status == 200) {
      for (const ChildProcess& child : children_) {
        for (const std::string& word : {std::string("KV transfer:")}) {
          const std::string tail = LogTail(child.log_path(), 400);
          const size_t at = tail.find(word);
          if (at != std::string::npos) {
            std::printf("  %-10s %s\n", child.name().c_str(), tail.substr(at, tail.find('\n', at) - at).c_str());
          }
        }
      }
      std::printf("  %-10s ready at %s\n", "router", url().c_str());
      return Status::Ok();
    }
  }
  return Error(Code::kCancelled, "stopped");
}

Status Cluster::Watch() {
  while (!g_stop) {
    Pump(200ms);
    if (Status s = CheckAlive(); !s.ok()) return s;
  }
  return Status::Ok();
}

void Cluster::Stop() {
  for (auto it = children_.rbegin(); it != children_.rend(); ++it) it->Terminate();
  const TimePoint limit = Now() + 5s;
  for (ChildProcess& child : children_) child.WaitOrKill(limit);
  children_.clear();
}

Status AskQuestion(const Cluster& cluster, const std::string& question) {
  std::printf("\n> %s\n", question.c_str());
  json::object message{{"role", "user"}, {"content", question}};
  auto answer = StreamChat({cluster.url(), "default", 256, 0}, json::array{std::move(message)}, [](std::string_view text) {
                             std::fwrite(text.data(), 1, text.size(), stdout);
                             std::fflush(stdout);
                           },
                           120s);
  if (!answer.ok()) return answer.status();
  std::printf("\n[%s]\n\n", DescribeTimings(*answer).c_str());
  return Status::Ok();
}

int Fail(const Status& status) {
  std::fprintf(stderr, "baton up: %s\n", status.message().c_str());
  return status.code() == Code::kInvalidArgument ? 2 : 4;
}

}  // namespace

int RunUp(const std::vector<std::string>& arguments) {
  if (WantsHelp(arguments)) {
    std::printf("usage: baton up --model-path M [flags]\n\n%s", DescribeFlags(kFlags).c_str());
    return 0;
  }
  auto flags = ParseFlags(kFlags, arguments);
  if (!flags.ok()) {
    std::fprintf(stderr, "baton up: %s\n\n%s", flags.status().message().c_str(), DescribeFlags(kFlags).c_str());
    return 2;
  }
  if (!flags->Has("model-path")) return Fail(Error(Code::kInvalidArgument, "--model-path is required"));
  for (const char* role : {"prefill", "decode"}) {
    if (flags->Integer(role) < 1 || flags->Integer(role) > 64) {
      return Fail(Error(Code::kInvalidArgument, "--{} must be from 1 to 64", role));
    }
  }
  std::signal(SIGINT, OnSignal);
  std::signal(SIGTERM, OnSignal);
  std::signal(SIGPIPE, SIG_IGN);
  Cluster cluster(*flags);
  Status status = cluster.Start();
  if (status.ok()) status = cluster.WaitReady();
  if (status.ok() && flags->Has("ask")) status = AskQuestion(cluster, flags->Text("ask"));
  if (status.ok() && !flags->On("once")) {
    std::printf("Chat page: %s/   API: %s/v1   (Ctrl-C stops everything)\n", cluster.url().c_str(), cluster.url().c_str());
    std::fflush(stdout);
    status = cluster.Watch();
  }
  cluster.Stop();
  if (status.ok() || (g_stop && !flags->On("once"))) return 0;
  return Fail(status);
}

}  // namespace baton::cli
