#include "cli/bench_command.h"

#include <cstdio>
#include <memory>

#include "api/errors.h"
#include "bench/engine_bench.h"

namespace baton::cli {
namespace {

double NumberOf(const json::object& report, std::string_view key) { return report.at(key).to_number<double>(); }

std::string Text(const json::object& report) {
  const auto text = [&](std::string_view key) { return std::string(report.at(key).as_string()); };
  return fmt::format(
      "{} on {} ({}, {} threads), batch {}, prompt {}, generate {}\n"
      "prefill  {:9.1f} tok/s   {:8.1f} GOP/s = {:4.1f}% of {:.1f} GOP/s measured (int8)\n"
      "decode   {:9.1f} tok/s   {:8.1f} GB/s  = {:4.1f}% of {:.1f} GB/s measured (reads)\n",
      text("model"), text("backend"), text("isa"), NumberOf(report, "threads"), NumberOf(report, "batch"),
      NumberOf(report, "prompt_len"), NumberOf(report, "gen_len"), NumberOf(report, "prefill_tok_s"),
      NumberOf(report, "prefill_gop_s"), 100 * NumberOf(report, "prefill_int8_share"),
      NumberOf(report, "int8_gop_s"), NumberOf(report, "decode_tok_s"), NumberOf(report, "decode_gb_s"),
      100 * NumberOf(report, "decode_bandwidth_share"), NumberOf(report, "read_gb_s"));
}

int RunBenchEngine(const bench::EngineBenchOptions& options, bool as_json) {
  const Result<json::object> report = bench::RunEngineBench(options);
  if (!report.ok()) {
    fmt::print(stderr, "baton bench engine: {}\n", report.status().message());
    return api::RowOf(report.status().code()).exit_code;
  }
  fmt::print("{}", as_json ? json::serialize(*report) + "\n" : Text(*report));
  return 0;
}

}  // namespace

void AddBenchEngineCommand(CLI::App& bench, int* exit_code) {
  const auto options = std::make_shared<bench::EngineBenchOptions>();
  const auto as_json = std::make_shared<bool>(false);
  CLI::App* const command =
      bench.add_subcommand("engine", "Prefill and decode speed of a model, beside the machine's limits");
  command->add_option("--model-path", options->model_path, "GGUF file, model folder or hub id")->required();
  command->add_option("--threads", options->threads, "Threads; 0: one per core")->capture_default_str();
  command->add_option("--prompt-len", options->prompt_len, "Prompt tokens of each request")->capture_default_str();
  command->add_option("--gen-len", options->gen_len, "Output tokens of each request")->capture_default_str();
  command->add_option("--batch", options->batch, "Requests at once")->capture_default_str();
  command->add_option("--chunk-tokens", options->chunk_tokens, "Most prompt tokens of one step")->capture_default_str();
  command->add_option("--repetitions", options->repetitions, "Measured rounds; the median counts")->capture_default_str();
  command->add_option("--backend", options->backend, "cpu or reference")->capture_default_str();
  command->add_option("--isa", options->isa, "Force avx2, avx512 or avx512-vnni");
  command->add_flag("--json", *as_json, "Print one JSON object");
  command->callback([options, as_json, exit_code] { *exit_code = RunBenchEngine(*options, *as_json); });
}

}  // namespace baton::cli
