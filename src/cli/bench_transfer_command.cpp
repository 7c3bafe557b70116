// `baton bench transfer`: flags, the two ends, the table.
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <memory>

#include "api/errors.h"
#include "bench/transfer_bench.h"
#include "bench/transfer_blocks.h"
#include "cli/bench_command.h"
#include "common/log.h"
#include "transfer/topology/topology.h"

namespace baton::cli {
namespace {

struct TransferFlags {
  bench::TransferBenchOptions options;
  std::string provider = "auto", write_mode = "auto", listen, connect, order = "random", memory = "shared";
  std::vector<std::string> classes = {"decode"};
  std::string local_memory = "host", remote_memory = "host";
  double timeout_s = 60;
  std::string topology;  // a capture; empty: this machine
  bool as_json = false;
};

constexpr const char* kPart = "baton bench transfer";

int Fail(const Status& status) {
  fmt::print(stderr, "{}: {}\n", kPart, status.message());
  return api::RowOf(status.code()).exit_code;
}

void PrintHeader(const std::string& report, const bench::TransferBenchOptions& o) {
  fmt::print("# {}\n# from {} to {}\n# {} MiB a round, {} places on both sides, {} transfer{} at once, {} pools, median of {} rounds\n",
             report, bench::MemoryName(o.local_device), bench::MemoryName(o.remote_device), o.total_mib, o.scattered ? "random" : "sequential", o.queue_depth, o.queue_depth == 1 ? "" : "s",
             o.shared_memory ? "shared" : "private", o.rounds);
  fmt::print("#{:>11}{:>10}{:>12}{:>12}{:>9}{:>10}{:>10}{:>10}  {}\n", "size", "blocks", "class", "time", "GB/s", "p50", "p99", "ceiling",
             "#wrong");
  fmt::print("#{:>11}{:>10}{:>12}{:>12}{:>9}{:>10}{:>10}{:>10}\n", "(B)", "", "", "(us)", "", "(us)", "(us)", "(GB/s)");
}

void PrintRow(const bench::TransferBenchRow& row) {
  fmt::print("{:>12}{:>10}{:>12}{:>12.1f}{:>9.2f}{:>10.1f}{:>10.1f}{:>10.2f}  {}  # ceiling: {}\n", row.block_kib << 10,
             row.blocks, transfer::PriorityName(row.priority), row.milliseconds * 1e3, row.gbps, row.p50_us, row.p99_us, row.ceiling_gbps, row.wrong, row.ceiling);
  std::fflush(stdout);
}

int RunWriter(bench::TransferLink link, const TransferFlags& flags) {
  json::array rows;
  const Status status = bench::RunTransferBench(
      std::move(link), flags.options,
      [&](const std::string& report) {
        if (!flags.as_json) PrintHeader(report, flags.options);
      },
      [&](const bench::TransferBenchRow& row) {
        if (!flags.as_json) return PrintRow(row);
        rows.push_back(row.ToJson(flags.options));
      });
  if (flags.as_json && !rows.empty())
    fmt::print("{}\n", flags.options.block_kib.size() * flags.options.classes.size() == 1 ? json::serialize(rows[0]) : json::serialize(rows));
  return status.ok() ? 0 : Fail(status);
}

int Listen(const TransferFlags& flags) {
  Result<bench::TransferListener> listener = bench::TransferListener::Open(flags.listen);
  if (!listener.ok()) return Fail(listener.status());
  fmt::print(stderr, "{}: waiting for a writer on port {}\n", kPart, listener->port());
  Result<bench::TransferLink> link = listener->Accept(Now() + 24h);
  if (!link.ok()) return Fail(link.status());
  const Status status = bench::ServeTransferBench(*std::move(link), flags.options.timeout, flags.options.rails);
  return status.ok() ? 0 : Fail(status);
}

int Connect(const TransferFlags& flags) {
  Result<bench::TransferLink> link = bench::TransferLink::Connect(flags.connect, Now() + 10s);
  if (!link.ok()) return Fail(link.status());
  return RunWriter(*std::move(link), flags);
}

// The target's exit, after the writer hung up; killed when it stays.
int WaitForTarget(pid_t target) {
  int status = 0;
  for (int i = 0; i < 500; ++i) {
    if (waitpid(target, &status, WNOHANG) == target) return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
    usleep(10'000);
  }
  kill(target, SIGKILL);
  waitpid(target, &status, 0);
  return 1;
}

int RunBoth(const TransferFlags& flags) {
  Result<bench::TransferListener> listener = bench::TransferListener::Open("127.0.0.1:0");
  if (!listener.ok()) return Fail(listener.status());
  const pid_t target = fork();  // no thread has started yet
  if (target < 0) return Fail(Error(Code::kResourceExhausted, "fork: {}", errno));
  if (target == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    Result<bench::TransferLink> link = listener->Accept(Now() + 30s);
    const Status status = link.ok() ? bench::ServeTransferBench(*std::move(link), flags.options.timeout, flags.options.rails)
                                    : link.status();
    _exit(status.ok() ? 0 : Fail(status));
  }
  Result<bench::TransferLink> link =
      bench::TransferLink::Connect(fmt::format("127.0.0.1:{}", listener->port()), Now() + 10s);
  const int code = link.ok() ? RunWriter(*std::move(link), flags) : Fail(link.status());
  const int target_code = WaitForTarget(target);
  return code ? code : target_code;
}

int PrintTopology(const std::string& file) {
  const Result<transfer::Topology> topology =
      file.empty() ? transfer::ReadSysfsTopology() : transfer::ReadHwlocXml(file);
  if (!topology.ok()) return Fail(topology.status());
  fmt::print("{}", topology->Describe());
  return 0;
}

int RunBenchTransfer(TransferFlags flags, bool sizes_given) {
  log::Init("warning", "bench");  // to stderr: stdout is for the figures
  const Result<transfer::ProviderKind> provider = transfer::ParseProvider(flags.provider);
  if (!provider.ok()) return Fail(provider.status());
  if (!flags.listen.empty() && !flags.connect.empty())
    return Fail(Error(Code::kInvalidArgument, "--listen and --connect are the two ends: give one of them"));
  if (!(flags.timeout_s >= 1 && flags.timeout_s <= 3600))
    return Fail(Error(Code::kInvalidArgument, "--timeout must be between 1 and 3600 seconds"));
  const Result<transfer::WriteMode> write_mode = transfer::ParseWriteMode(flags.write_mode);
  if (!write_mode.ok()) return Fail(write_mode.status());
  const Result<int> local = bench::ParseMemory(flags.local_memory), remote = bench::ParseMemory(flags.remote_memory);
  if (!local.ok()) return Fail(local.status().Prefixed("--local-memory"));
  if (!remote.ok()) return Fail(remote.status().Prefixed("--remote-memory"));
  flags.options.classes.clear();
  for (const std::string& name : flags.classes) {
    const Result<transfer::Priority> priority = transfer::ParsePriority(name);
    if (!priority.ok()) return Fail(priority.status().Prefixed("--class"));
    flags.options.classes.push_back(*priority);
  }
  flags.options.local_device = *local;
  flags.options.remote_device = *remote;
  flags.options.provider = *provider;
  flags.options.write_mode = *write_mode;
  flags.options.scattered = flags.order == "random";
  flags.options.shared_memory = flags.memory == "shared";
  flags.options.timeout = std::chrono::milliseconds(static_cast<int64_t>(flags.timeout_s * 1000));
  // One object for whoever asked no sizes.
  if (flags.as_json && !sizes_given) flags.options.block_kib = {16};
  if (!flags.listen.empty()) return Listen(flags);
  return flags.connect.empty() ? RunBoth(flags) : Connect(flags);
}

}  // namespace

void AddBenchTransferCommand(CLI::App& bench, int* exit_code) {
  const auto flags = std::make_shared<TransferFlags>();
  CLI::App* const command = bench.add_subcommand(
      "transfer", "Speed of the KV transfer engine between two processes or two hosts, every byte checked");
  bench::TransferBenchOptions& options = flags->options;
  command->add_option("--provider", flags->provider, "auto, efa, tcp, shm or nixl (BATON_NIXL_PATH and BATON_NIXL_BACKEND say which)")->capture_default_str();
  command->add_option("--transfer-fabric", options.fabric, "Which way of the provider: efa or efa-direct, rxm or native (tcp)")
      ->capture_default_str();
  command->add_option("--transfer-write-mode", flags->write_mode, "write, or read: the target fetches")->capture_default_str();
  command->add_flag("--require-rdma", options.require_rdma, "Refuse anything but hardware RDMA");
  command->add_option("--transfer-rails", options.rails,
                      "Network cards of this end: interfaces or addresses (tcp), domains or devices (efa)")
      ->delimiter(',');
  command->add_option("--listen", flags->listen, "[HOST:]PORT: be the target and serve one writer");
  command->add_option("--connect", flags->connect, "HOST:PORT of a listening target; with neither, both ends run here");
  command->add_option("--total-mib", options.total_mib, "MiB of each round")->capture_default_str();
  CLI::Option* const sizes = command->add_option("--block-kib", options.block_kib, "Block sizes, e.g. 4,16,1024")
                                 ->delimiter(',')->capture_default_str();
  command->add_option("--queue-depth", options.queue_depth, "Transfers at once, each with its share of the blocks")
      ->capture_default_str();
  command->add_option("--class", flags->classes,
                      "Classes that the blocks are shared out to and that move at once: control, decode, background")
      ->delimiter(',')->capture_default_str();
  command->add_option("--order", flags->order, "Places of the blocks on both sides: random or sequential")
      ->check(CLI::IsMember({"random", "sequential"}))->capture_default_str();
  command->add_option("--memory", flags->memory, "Pools: shared (as the server's KV pool) or private")
      ->check(CLI::IsMember({"shared", "private"}))->capture_default_str();
  command->add_option("--local-memory", flags->local_memory, "Where the writer's pool is: host, or cuda:N")->capture_default_str();
  command->add_option("--remote-memory", flags->remote_memory, "Where the target's pool is: host, or cuda:N (the writer decides)")
      ->capture_default_str();
  command->add_option("--rounds", options.rounds, "Measured rounds; the median counts")->capture_default_str();
  command->add_option("--latency-samples", options.latency_samples, "Transfers of one block for p50 and p99; 0: none")
      ->capture_default_str();
  command->add_option("--timeout", flags->timeout_s, "Seconds for each step")->capture_default_str();
  command->add_flag("--json", flags->as_json, "Print one JSON object; an array when several sizes are asked");
  CLI::Option* const topology =
      command->add_option("--topology", flags->topology, "Print which network cards serve which GPU, of this machine or of "
                          "a capture (lstopo --of xml), and do nothing else")->expected(0, 1)->type_name("[FILE.xml]");
  command->callback([flags, sizes, topology, exit_code] {
    *exit_code = topology->count() > 0 ? PrintTopology(flags->topology) : RunBenchTransfer(*flags, sizes->count() > 0);
  });
}

}  // namespace baton::cli
