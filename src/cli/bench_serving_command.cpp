#include "cli/bench_serving_command.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>

#include "api/errors.h"
#include "bench/serving/report_html.h"
#include "bench/serving/report_json.h"
#include "bench/serving/report_text.h"
#include "model/hub.h"
#include "server/model_text.h"

namespace baton::cli {
namespace {

using namespace bench::serving;  // NOLINT: one subject

// Flags as they are typed.
struct Flags {
  std::string base_url, host = "127.0.0.1", backend = "chat", endpoint, model, tokenizer, api_key;
  int port = 8000;
  std::vector<std::string> headers;
  std::string dataset = "random", dataset_path;
  std::string input_len = "512", output_len = "128";
  double range_ratio = 1;
  std::string request_rate, max_concurrency;
  std::string arrival;
  double burstiness = 1;
  bool use_trace_timestamps = false, ignore_timestamps = false;
  double time_scale = 1;
  int64_t num_prompts = 0;
  double duration_s = 0, request_timeout_s = 3600, connect_timeout_s = 10;
  std::string slo;
  std::string extra_body;
  bool disable_stream = false;
  std::string json_path, html_path;
  bool quiet = false;
  ServingOptions options;
};

Status ReadRate(const std::string& word, std::optional<double>* out) {
  if (word == "inf") return Status::Ok();
  double rate = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), rate);
  if (error != std::errc() || end != word.data() + word.size() || !(rate > 0)) {
    return Error(Code::kInvalidArgument, "--request-rate: \"{}\" is not a rate above 0 or inf",
                 word);
  }
  *out = rate;
  return Status::Ok();
}

std::vector<std::string> SplitList(const std::string& text) {
  std::vector<std::string> words;
  for (size_t at = 0; at <= text.size();) {
    const size_t comma = std::min(text.find(',', at), text.size());
    words.push_back(text.substr(at, comma - at));
    at = comma + 1;
  }
  return words;
}

Status ReadLoad(const Flags& f, ServingOptions* o) {
  if (!f.request_rate.empty()) {
    o->rates.clear();
    for (const std::string& word : SplitList(f.request_rate)) {
      std::optional<double> rate;
      if (Status s = ReadRate(word, &rate); !s.ok()) return s;
      o->rates.push_back(rate);
    }
  }
  if (!f.max_concurrency.empty()) {
    o->concurrencies.clear();
    for (const std::string& word : SplitList(f.max_concurrency)) {
      size_t users = 0;
      const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), users);
      if (error != std::errc() || end != word.data() + word.size() || users == 0 ||
          users > 1'000'000) {
        return Error(Code::kInvalidArgument, "--max-concurrency: \"{}\" is not in [1, 1000000]",
                     word);
      }
      o->concurrencies.push_back(users);
    }
  }
  // vLLM's habit: a burstiness other than 1 asks for the gamma process.
  auto arrival = ParseArrivalKind(!f.arrival.empty()  ? f.arrival
                                  : f.burstiness == 1 ? "poisson"
                                                      : "gamma");
  if (!arrival.ok()) return arrival.status().Prefixed("--arrival");
  if (*arrival != ArrivalKind::kGamma && f.burstiness != 1) {
    return Error(Code::kInvalidArgument, "--burstiness goes with --arrival gamma");
  }
  o->arrival = *arrival;
  o->burstiness = f.burstiness;
  const bool rate_given =
      std::any_of(o->rates.begin(), o->rates.end(), [](const auto& r) { return r.has_value(); });
  if (f.use_trace_timestamps && rate_given) {
    return Error(Code::kInvalidArgument,
                 "--use-trace-timestamps and --request-rate exclude each other");
  }
  o->trace_times = f.use_trace_timestamps || (o->workload.kind == DatasetKind::kMooncake &&
                                              !rate_given && !f.ignore_timestamps);
  o->trace_scale = f.time_scale;
  return Status::Ok();
}

Result<LengthDistribution> ReadLength(const std::string& text, double ratio,
                                      std::string_view flag) {
  auto parsed = LengthDistribution::Parse(text);
  if (!parsed.ok()) return parsed.status().Prefixed(flag);
  // SGLang's reading of the ratio: uniform from ratio * length to length.
  if (parsed->fixed() && ratio < 1) {
    return LengthDistribution::Uniform(std::max(1, static_cast<int>(parsed->high() * ratio)),
                                       parsed->high());
  }
  return parsed;
}

Status ReadWorkload(const Flags& f, bool output_given, ServingOptions* o) {
  auto kind = ParseDatasetKind(f.dataset);
  if (!kind.ok()) return kind.status();
  if (f.range_ratio <= 0 || f.range_ratio > 1)
    return Error(Code::kInvalidArgument, "--random-range-ratio must be in (0, 1]");
  auto input = ReadLength(f.input_len, f.range_ratio, "--input-len");
  if (!input.ok()) return input.status();
  auto output = ReadLength(f.output_len, f.range_ratio, "--output-len");
  if (!output.ok()) return output.status();
  o->workload.kind = *kind;
  o->workload.path = f.dataset_path;
  o->workload.input = *input;
  o->workload.output = *output;
  o->workload.output_given = output_given;
  o->workload.seed = o->seed;
  return Status::Ok();
}

Status ReadRequest(const Flags& f, ServingOptions* o) {
  auto api = ParseApi(f.backend);
  if (!api.ok()) return api.status();
  o->body.api = *api;
  o->body.stream = !f.disable_stream;
  o->body.model = f.model;
  o->base_url =
      f.base_url.empty()
          ? fmt::format("http://{}:{}",
                        f.host.find(':') == std::string::npos ? f.host : "[" + f.host + "]", f.port)
          : f.base_url;
  o->path = f.endpoint;
  if (!o->path.empty() && o->path[0] != '/')
    return Error(Code::kInvalidArgument, "--endpoint must begin with /");
  o->api_key = f.api_key;
  if (const char* key = std::getenv("OPENAI_API_KEY"); key && o->api_key.empty()) o->api_key = key;
  for (const std::string& header : f.headers) {
    const size_t at = header.find_first_of(":=");
    if (at == std::string::npos || at == 0 || header.find_first_of("\r\n") != std::string::npos) {
      return Error(Code::kInvalidArgument, "--header: \"{}\" is not NAME: VALUE or NAME=VALUE",
                   header);
    }
    const size_t value = header.find_first_not_of(' ', at + 1);
    o->headers.emplace_back(header.substr(0, at),
                            value == std::string::npos ? "" : header.substr(value));
  }
  if (!f.extra_body.empty()) {
    auto extra = json::Parse(f.extra_body);
    if (!extra.ok() || !extra->is_object()) {
      return Error(Code::kInvalidArgument, "--extra-body: {}",
                   extra.ok() ? "not a JSON object" : extra.status().message());
    }
    o->body.extra = extra->get_object();
  }
  return Status::Ok();
}

Status ReadOptions(Flags& f, bool output_given) {
  ServingOptions& o = f.options;
  if (Status s = ReadRequest(f, &o); !s.ok()) return s;
  if (Status s = ReadWorkload(f, output_given, &o); !s.ok()) return s;
  if (Status s = ReadLoad(f, &o); !s.ok()) return s;
  auto slo = Slo::Parse(f.slo);
  if (!slo.ok()) return slo.status();
  o.slo = *slo;
  if (f.num_prompts < 0) return Error(Code::kInvalidArgument, "--num-prompts must be at least 1");
  if (f.num_prompts > 0) o.num_prompts = static_cast<uint64_t>(f.num_prompts);
  const auto seconds = [](double s) {
    return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(s));
  };
  if (!(f.duration_s >= 0 && f.duration_s < 1e7))
    return Error(Code::kInvalidArgument, "--duration must be in [0, 1e7] seconds");
  if (!(f.request_timeout_s > 0 && f.request_timeout_s < 1e7))
    return Error(Code::kInvalidArgument, "--request-timeout must be above 0");
  if (!(f.connect_timeout_s > 0 && f.connect_timeout_s < 1e6))
    return Error(Code::kInvalidArgument, "--connect-timeout must be above 0");
  o.duration = seconds(f.duration_s);
  o.request_timeout = seconds(f.request_timeout_s);
  o.connect_timeout = seconds(f.connect_timeout_s);
  if (o.body.send_ids && f.tokenizer.empty())
    return Error(Code::kInvalidArgument, "--tokenize-prompt needs --model-path or --tokenizer");
  if (o.body.send_ids && o.body.api == Api::kChat)
    return Error(Code::kInvalidArgument, "--tokenize-prompt: chat takes text only");
  return Status::Ok();
}

Result<Encoder> LoadEncoder(const std::string& path) {
  std::shared_ptr<tokenizer::Tokenizer> tokenizer;
  if (path.ends_with(".json")) {
    auto loaded = tokenizer::LoadTokenizerJson(path);
    if (!loaded.ok()) return loaded.status().Prefixed("--tokenizer");
    tokenizer = std::move(*loaded);
  } else {
    const auto files = model::ResolveModel(path);
    if (!files.ok()) return files.status().Prefixed("--tokenizer");
    auto text = server::LoadModelText(*files, nullptr, {});
    if (!text.ok()) return text.status().Prefixed("--tokenizer");
    tokenizer = std::move(text->tokenizer);
  }
  return Encoder([tokenizer](std::string_view text) {
    return tokenizer->Encode(text, {.add_special_tokens = false, .parse_special = false});
  });
}

Status WriteFile(const std::string& path, const std::string& content) {
  if (path == "-") {
    std::fwrite(content.data(), 1, content.size(), stdout);
    return Status::Ok();
  }
  std::ofstream out(path, std::ios::binary);
  out << content;
  out.close();
  if (!out) return Error(Code::kInvalidArgument, "cannot write {}", path);
  return Status::Ok();
}

Result<ServingReport> RunWithLiveLine(const Flags& f, ServingHooks hooks) {
  const bool live = ::isatty(STDERR_FILENO) && !f.quiet;
  if (!f.quiet) {
    hooks.note = [live](const std::string& line) {
      fmt::print(stderr, "{}{}\n", live ? "\r\033[K" : "", line);
    };
  }
  if (live) {
    hooks.progress = [](const Tally& tally, double elapsed_s) {
      fmt::print(stderr, "\r\033[K{}", ProgressLine(tally, elapsed_s));
      std::fflush(stderr);
    };
  }
  auto report = RunServingBench(f.options, hooks);
  if (live) fmt::print(stderr, "\r\033[K");
  return report;
}

int Run(Flags& f, bool output_given) {
  const auto fail = [](const Status& status) {
    fmt::print(stderr, "baton bench serving: {}\n", status.message());
    return api::RowOf(status.code()).exit_code;
  };
  if (Status s = ReadOptions(f, output_given); !s.ok()) return fail(s);
  ServingHooks hooks;
  if (!f.tokenizer.empty()) {
    auto encoder = LoadEncoder(f.tokenizer);
    if (!encoder.ok()) return fail(encoder.status());
    hooks.encoder = std::move(*encoder);
  }
  const auto report = RunWithLiveLine(f, std::move(hooks));
  if (!report.ok()) return fail(report.status());
  if (f.json_path != "-" && f.html_path != "-") fmt::print("{}", ReportToText(*report, f.options));
  const auto write = [](const std::string& path, const std::string& content) {
    return path.empty() ? Status::Ok() : WriteFile(path, content);
  };
  if (Status s = write(f.json_path, json::serialize(ReportToJson(*report, f.options)) + "\n");
      !s.ok())
    return fail(s);
  if (Status s = write(f.html_path, ReportToHtml(*report, f.options)); !s.ok()) return fail(s);
  return ExitCodeOf(*report);
}

void AddTargetFlags(CLI::App* c, Flags* f) {
  ServingOptions& o = f->options;
  c->add_option("--base-url,--url", f->base_url,
                "http://host:port of the server or router; overrides --host and --port");
  c->add_option("--host", f->host, "Server host")->capture_default_str();
  c->add_option("--port", f->port, "Server port")->capture_default_str();
  c->add_option("--backend", f->backend,
                "chat, completions or generate (SGLang's and vLLM's names work too)")
      ->capture_default_str();
  c->add_option("--endpoint", f->endpoint, "Path, when it is not the API's own");
  c->add_option("--model", f->model, "Model name in requests; default: the first of /v1/models");
  c->add_option("--tokenizer,--model-path", f->tokenizer,
                "GGUF, model folder, hub id or tokenizer.json: exact prompt lengths");
  c->add_option("--api-key", f->api_key, "Bearer token; default: OPENAI_API_KEY");
  c->add_option("--header", f->headers, "NAME: VALUE or NAME=VALUE, any number of times")
      ->take_all();
  c->add_option("--request-timeout", f->request_timeout_s, "Seconds for a whole request")
      ->capture_default_str();
  c->add_option("--connect-timeout", f->connect_timeout_s, "Seconds for a connection")
      ->capture_default_str();
  c->add_option("--temperature", o.body.temperature, "Sampling temperature")->capture_default_str();
  c->add_flag("--ignore-eos", o.body.ignore_eos,
              "Ask for exactly the wanted output length (SGLang and vLLM extension)");
  c->add_flag("--disable-stream", f->disable_stream,
              "Whole answers: no time to first token, no gaps");
  c->add_flag("--tokenize-prompt", o.body.send_ids,
              "Send token ids instead of text (completions and generate)");
  c->add_option("--extra-body,--extra-request-body", f->extra_body,
                "JSON object whose members go into every request");
}

void AddWorkloadFlags(CLI::App* c, Flags* f) {
  WorkloadOptions& w = f->options.workload;
  c->add_option("--dataset-name", f->dataset,
                "random, generated-shared-prefix, sharegpt or mooncake")
      ->capture_default_str();
  c->add_option("--dataset-path", f->dataset_path,
                "File of sharegpt (JSON or JSONL) or mooncake (JSONL)");
  c->add_option("--input-len,--random-input-len,--random-input", f->input_len,
                "Prompt tokens: N, uniform:LOW,HIGH, normal:MEAN,SD[,LOW,HIGH], "
                "lognormal:MEAN,SD[,LOW,HIGH] or zipf:S,LOW,HIGH")
      ->capture_default_str();
  c->add_option("--output-len,--random-output-len,--random-output,--sharegpt-output-len",
                f->output_len,
                "Output tokens, in the same forms; overrides the lengths of a file when given")
      ->capture_default_str();
  c->add_option("--random-range-ratio", f->range_ratio,
                "Plain lengths become uniform from RATIO * N to N")
      ->capture_default_str();
  c->add_option("--turns", w.turns, "Turns of a conversation (random, shared prefix, sharegpt)")
      ->capture_default_str();
  c->add_option("--gsp-num-groups", w.prefix_groups, "Shared prefixes")->capture_default_str();
  c->add_option("--gsp-prompts-per-group", w.prompts_per_group, "Prompts that share each")
      ->capture_default_str();
  c->add_option("--gsp-system-prompt-len", w.prefix_tokens,
                "Tokens of each shared prefix; --input-len is what follows")
      ->capture_default_str();
  c->add_option("--mooncake-block-size", w.block_tokens, "Tokens of a hash id")
      ->capture_default_str();
  c->add_option("--length-scale", w.length_scale, "Multiplies a trace's lengths and blocks")
      ->capture_default_str();
  c->add_option("--max-input-len", w.max_input_tokens,
                "Longer prompts of a trace are cut, of sharegpt left out; 0: no limit")
      ->capture_default_str();
  c->add_option("--max-output-len", w.max_output_tokens, "Cuts wanted output lengths; 0: no limit")
      ->capture_default_str();
}

void AddLoadFlags(CLI::App* c, Flags* f) {
  ServingOptions& o = f->options;
  c->add_option("--num-prompts", f->num_prompts,
                "Conversations of each point; default 1000, or as many as the trace holds");
  c->add_option("--duration", f->duration_s,
                "Seconds in which requests start; 0: until --num-prompts")
      ->capture_default_str();
  c->add_option("--request-rate", f->request_rate,
                "Requests per second (open loop) or inf; a list sweeps: 1,2,4,8");
  c->add_option("--max-concurrency", f->max_concurrency,
                "Requests at once; alone: a closed loop of so many users; a list sweeps");
  c->add_option("--arrival", f->arrival,
                "poisson, constant or gamma; default poisson, or gamma with --burstiness");
  c->add_option("--burstiness", f->burstiness,
                "Shape of gamma gaps: below 1 bursts, above 1 more even")
      ->capture_default_str();
  c->add_flag("--use-trace-timestamps", f->use_trace_timestamps,
              "Send at the trace's own times (mooncake's default)");
  c->add_flag("--ignore-trace-timestamps", f->ignore_timestamps, "Do not");
  c->add_option("--time-scale,--mooncake-slowdown-factor", f->time_scale,
                "Multiplies the trace's times: 0.5 is twice as fast")
      ->capture_default_str();
  c->add_option("--warmup-requests", o.warmup_requests,
                "Sent before the first point and not counted")
      ->capture_default_str();
  c->add_option("--seed", o.seed, "Prompts, lengths and arrivals")->capture_default_str();
  c->add_option("--slo,--goodput", f->slo,
                "ttft=500ms,tpot=50ms,itl=100ms,e2e=5s: what a good request keeps to");
  c->add_option("--slo-attainment", o.slo_attainment,
                "Share of requests that must be good, else exit code 6")
      ->capture_default_str();
  c->add_option("--json,--output-file", f->json_path,
                "Report as JSON to this file; - : standard output instead of the table");
  c->add_option("--html", f->html_path, "Report with plots to this file");
  c->add_flag("--quiet", f->quiet, "No progress");
}

}  // namespace

void AddBenchServingCommand(CLI::App& bench, int* exit_code) {
  const auto flags = std::make_shared<Flags>();
  CLI::App* const command =
      bench.add_subcommand("serving",
                           "Load on an OpenAI-compatible endpoint: latencies, throughput, "
                           "goodput.\nExit: 0 done, 2 usage, 4 every request "
                           "failed, 5 interrupted, 6 SLO missed");
  AddTargetFlags(command, flags.get());
  AddWorkloadFlags(command, flags.get());
  AddLoadFlags(command, flags.get());
  command->callback([command, flags, exit_code] {
    *exit_code = Run(*flags, command->count("--output-len") > 0);
  });
}

}  // namespace baton::cli
