#include "server/control_handlers.h"

#include <array>

#include <boost/asio/bind_executor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/system_executor.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "api/fields.h"
#include "common/log.h"
#include "common/version.h"
#include "server/generation.h"
#include "server/model_name.h"
#include "server/prompts.h"
#include "server/reply.h"

namespace baton::server {
namespace {

using boost::asio::awaitable;

// --- Health -----------------------------------------------------------------------------------------

// Empty answer for probes: 200, or 503 with the reason as text.
awaitable<void> AnswerHealth(http::Responder& responder, const Status& status) {
  // A local, not an expression inside of co_await: GCC 12 destroys such temporaries twice.
  http::Response response = status.ok() ? TextResponse(200, "") : TextResponse(503, status.message() + "\n");
  (void)co_await responder.Send(std::move(response));
}

Status Health(const Context& context) {
  if (context.draining) return Error(Code::kUnavailable, "draining");
  if (!context.ready) return Error(Code::kUnavailable, "starting");
  const auto stuck = Now() - context.engine->last_progress();
  if (stuck > 20s) return Error(Code::kUnavailable, "the engine made no progress for {:.0f} s", Seconds(stuck));
  return Status::Ok();
}

awaitable<void> HandleHealth(Context& context, http::Request&, http::Responder& responder) {
  co_await AnswerHealth(responder, Health(context));
}

awaitable<void> HandleHealthGenerate(Context& context, http::Request&, http::Responder& responder) {
  Status status = Health(context);
  if (status.ok()) status = co_await ProbeEngine(context, 1, 20s);
  co_await AnswerHealth(responder, status);
}

awaitable<void> HandlePing(Context&, http::Request&, http::Responder& responder) {
  (void)co_await responder.Send(TextResponse(200, ""));
}

// --- Models and info ---------------------------------------------------------------------------------

json::object ModelCard(const Context& context) {
  return {{"id", context.model_name}, {"object", "model"}, {"created", static_cast<int64_t>(context.started_at)},
          {"owned_by", "sglang"}, {"root", context.model_name}, {"parent", nullptr},
          {"max_model_len", context.engine->options().context_length}};
}

awaitable<void> SendJson(http::Responder& responder, const json::value& body, int status = 200) {
  (void)co_await responder.Send(JsonResponse(status, json::serialize(body)));
}

// JSON bodies are made outside of coroutines: GCC 12 cannot compile their initializer lists there.
json::object ModelList(const Context& context) {
  return {{"object", "list"}, {"data", json::array{ModelCard(context)}}};
}

awaitable<void> HandleModels(Context& context, http::Request&, http::Responder& responder) {
  co_await SendJson(responder, ModelList(context));
}

awaitable<void> HandleModel(Context& context, http::Request& request, http::Responder& responder) {
  const std::string id = request.path.substr(std::string_view("/v1/models/").size());
  if (ServesModel(context, id)) co_return co_await SendJson(responder, ModelCard(context));
  co_await SendJson(responder, UnknownModel(context, id), 404);
}

json::object ModelInfo(const Context& context) {
  const model::ModelConfig& config = context.engine->model_config();
  return {
      {"model_path", context.options.model_path},
      {"tokenizer_path", context.options.tokenizer_path.empty() ? context.options.model_path : context.options.tokenizer_path},
      {"is_generation", true}, {"preferred_sampling_params", nullptr}, {"weight_version", "default"},
      {"has_image_understanding", false}, {"has_audio_understanding", false},
      {"model_type", config.architecture}, {"architectures", json::array{json::value(config.hf_architecture)}}};
}

awaitable<void> HandleModelInfo(Context& context, http::Request&, http::Responder& responder) {
  co_await SendJson(responder, ModelInfo(context));
}

json::object FabricInfo(const transfer::FabricReport& report) {
  json::array rails;
  for (const std::string& rail : report.rails) rails.push_back(json::string(rail));
  return {{"provider", report.provider}, {"fabric", report.fabric}, {"rails", std::move(rails)},
          {"hardware_rdma", report.hardware_rdma}, {"write_path", report.write_path},
          {"self_test_gb_per_s", report.self_test_gb_per_s}, {"libfabric_version", report.libfabric_version},
          {"nixl_version", report.nixl_version}};
}

json::object ServerInfo(const Context& context) {
  const engine::EngineStats stats = context.engine->stats();
  json::object out = context.options.all_flags;
  out["model_path"] = context.options.model_path;
  out["served_model_name"] = context.model_name;
  out["disaggregation_mode"] = ModeName(context.options.mode);
  out["tp_size"] = 1;
  out["dp_size"] = 1;
  out["max_total_num_tokens"] = stats.max_total_tokens;
  out["max_req_input_len"] = context.engine->max_prompt_tokens();
  out["version"] = "0.5.9";  // the SGLang interface that this server speaks
  out["baton_version"] = kVersion;
  out["isa"] = context.engine->backend().isa;
  if (context.prefill) out["fabric"] = FabricInfo(context.prefill->fabric());
  if (context.decode) out["fabric"] = FabricInfo(context.decode->fabric());
  const json::object memory{{"token_capacity", stats.max_total_tokens},
                            {"kvcache", static_cast<double>(context.engine->kv_memory().size_bytes) / 1e9}};
  out["internal_states"] = json::array{json::object{
      {"last_gen_throughput", stats.gen_tok_s}, {"memory_usage", memory},
      {"effective_max_running_requests_per_dp", stats.max_running}}};
  return out;
}

awaitable<void> HandleServerInfo(Context& context, http::Request&, http::Responder& responder) {
  co_await SendJson(responder, ServerInfo(context));
}

// --- Loads --------------------------------------------------------------------------------------------

json::object Disaggregation(const Context& context) {
  json::object out{{"mode", ModeName(context.options.mode)}};
  if (context.prefill) {
    const auto counts = context.prefill->counts();
    out["prefill_prealloc_queue_reqs"] = counts.bootstrapping;
    out["prefill_inflight_queue_reqs"] = counts.inflight;
  }
  if (context.decode) {
    const auto counts = context.decode->counts();
    out["decode_prealloc_queue_reqs"] = counts.prealloc;
    out["decode_transfer_queue_reqs"] = counts.transfer;
    out["decode_retracted_queue_reqs"] = context.engine->stats().retracted;
  }
  return out;
}

int WaitingRequests(const Context& context) {
  const engine::EngineStats stats = context.engine->stats();
  int waiting = stats.queued + stats.reserving + stats.retracted;
  if (context.prefill) waiting += context.prefill->counts().bootstrapping;
  if (context.decode) waiting += context.decode->counts().prealloc + context.decode->counts().transfer;
  return waiting;
}

int UsedTokens(const Context& context) {
  return context.engine->stats().pages_used * context.engine->options().page_tokens;
}

json::array OldLoad(const Context& context) {
  const int waiting = WaitingRequests(context);
  return {json::object{
      {"dp_rank", 0}, {"num_reqs", context.engine->stats().running + waiting}, {"num_waiting_reqs", waiting},
      {"num_tokens", UsedTokens(context)}, {"ts_tic", UnixSeconds()}}};
}

awaitable<void> HandleGetLoad(Context& context, http::Request&, http::Responder& responder) {
  co_await SendJson(responder, OldLoad(context));
}

json::object Loads(const Context& context) {
  const engine::EngineStats stats = context.engine->stats();
  const int waiting = WaitingRequests(context);
  const double total_prompt = static_cast<double>(stats.prompt_tokens);
  const json::object load{
      {"dp_rank", 0}, {"num_running_reqs", stats.running}, {"num_waiting_reqs", waiting},
      {"num_total_reqs", stats.running + waiting}, {"num_used_tokens", UsedTokens(context)},
      {"max_total_num_tokens", stats.max_total_tokens}, {"token_usage", stats.token_usage},
      {"gen_throughput", stats.gen_tok_s}, {"max_running_requests", stats.max_running},
      {"utilization", stats.max_running ? static_cast<double>(stats.running) / stats.max_running : 0.0},
      {"cache_hit_rate", total_prompt > 0 ? stats.cached_tokens / total_prompt : 0.0},
      {"disaggregation", Disaggregation(context)}};
  const json::object aggregate{{"total_running_reqs", stats.running}, {"total_waiting_reqs", waiting},
                               {"total_used_tokens", UsedTokens(context)}, {"avg_token_usage", stats.token_usage}};
  return {{"timestamp", UnixSeconds()}, {"version", "0.5.9"}, {"dp_rank_count", 1}, {"loads", json::array{load}},
          {"aggregate", aggregate}};
}

awaitable<void> HandleLoads(Context& context, http::Request&, http::Responder& responder) {
  co_await SendJson(responder, Loads(context));
}

awaitable<void> HandleMetrics(Context& context, http::Request&, http::Responder& responder) {
  if (!context.options.enable_metrics) {
    co_return (void)co_await responder.Send(TextResponse(404, "metrics are off: start with --enable-metrics\n"));
  }
  (void)co_await responder.Send(TextResponse(200, context.registry.Render(), "text/plain; version=0.0.4; charset=utf-8"));
}

// --- Cache, abort ---------------------------------------------------------------------------------------

awaitable<void> HandleFlushCache(Context& context, http::Request&, http::Responder& responder) {
  // Waits for the step that runs: not on a thread that serves others.
  const auto here = co_await boost::asio::this_coro::executor;
  co_await boost::asio::post(boost::asio::bind_executor(boost::asio::system_executor(), boost::asio::use_awaitable));
  const Status status = context.engine->FlushCache();
  co_await boost::asio::post(boost::asio::bind_executor(here, boost::asio::use_awaitable));
  http::Response response = status.ok() ? TextResponse(200, "Cache flushed.\n") : TextResponse(400, status.message() + "\n");
  (void)co_await responder.Send(std::move(response));
}

awaitable<void> HandleAbort(Context& context, http::Request& request, http::Responder& responder) {
  auto body = co_await ReadJson(request, responder, true);
  if (!body) co_return;
  std::string rid;
  bool all = false;
  Status status;
  if (!body->is_object()) {
    status = Error(Code::kInvalidArgument, "the request body must be a JSON object");
  } else {
    api::FieldReader reader(body->get_object());
    reader.String("rid", rid);
    reader.Bool("abort_all", all);
    status = reader.status();
    if (status.ok() && rid.empty() && !all) status = Error(Code::kInvalidArgument, "give rid, or abort_all: true");
  }
  if (!status.ok()) co_return co_await SendNativeError(responder, status);
  for (const RequestId id : all ? context.active.All() : context.active.Find(rid)) context.Abort(id);
  (void)co_await responder.Send(TextResponse(200, ""));
}

// --- Pairing ----------------------------------------------------------------------------------------------

// A router that knows both halves introduces them here, so that the first request finds the pair
// connected and warm.
Status ReadPair(const json::value& body, api::Bootstrap& out) {
  if (!body.is_object()) return Error(Code::kInvalidArgument, "the request body must be a JSON object");
  api::FieldReader reader(body.get_object());
  int64_t port = 0;
  reader.String("bootstrap_host", out.host);
  reader.Integer("bootstrap_port", port, 1, 65535);
  if (!reader.status().ok()) return reader.status();
  if (port) out.port = static_cast<int>(port);
  return Status::Ok();
}

awaitable<Status> Pair(Context& context, api::Bootstrap bootstrap) {
  struct Waiting {
    explicit Waiting(const boost::asio::any_io_executor& executor) : bell(executor, TimePoint::max()) {}
    boost::asio::steady_timer bell;
    Status status = Error(Code::kDeadlineExceeded, "the prefill server was not reached in time");
  };
  const auto here = co_await boost::asio::this_coro::executor;
  const auto waiting = std::make_shared<Waiting>(here);
  Status begun = context.decode->Pair(bootstrap, [here, waiting](Status status) {
    boost::asio::post(here, [waiting, status = std::move(status)]() mutable {
      waiting->status = std::move(status);
      waiting->bell.cancel();
    });
  });
  if (!begun.ok()) co_return begun;
  waiting->bell.expires_after(20s);
  boost::system::error_code ignored;
  co_await waiting->bell.async_wait(boost::asio::redirect_error(boost::asio::use_awaitable, ignored));
  co_return waiting->status;
}

awaitable<void> HandlePair(Context& context, http::Request& request, http::Responder& responder) {
  auto body = co_await ReadJson(request, responder, false);
  if (!body) co_return;
  api::Bootstrap bootstrap;
  Status status = context.decode ? ReadPair(*body, bootstrap)
                                 : Error(Code::kInvalidArgument, "this is no decode server: it pairs with nobody");
  if (status.ok()) status = co_await Pair(context, std::move(bootstrap));
  if (!status.ok()) co_return co_await SendNativeError(responder, status, "prefill");
  (void)co_await responder.Send(TextResponse(200, ""));
}

// --- Tokens ---------------------------------------------------------------------------------------------

Status NeedTokenizer(const Context& context) {
  if (context.text.tokenizer) return Status::Ok();
  return Error(Code::kInvalidArgument, "this server runs with --skip-tokenizer-init: it has no tokenizer");
}

Result<json::object> Tokenize(const Context& context, const json::value& body) {
  if (Status s = NeedTokenizer(context); !s.ok()) return s;
  if (!body.is_object()) return Error(Code::kInvalidArgument, "the request body must be a JSON object");
  api::FieldReader reader(body.get_object());
  bool add_special = true;
  reader.Bool("add_special_tokens", add_special);
  std::vector<std::string> prompts;
  reader.Strings("prompt", prompts, 4096);
  if (!reader.status().ok()) return reader.status();
  const json::value* given = json::Find(body.get_object(), "prompt");
  if (!given) return Error(Code::kInvalidArgument, "prompt is required");
  json::array lists, counts;
  for (const std::string& prompt : prompts) {
    auto ids = context.text.tokenizer->Encode(prompt, {add_special, true});
    if (!ids.ok()) return ids.status();
    counts.push_back(ids->size());
    lists.push_back(json::array(ids->begin(), ids->end()));
  }
  const bool one = given->is_string();
  json::object out;
  out["tokens"] = one ? lists[0] : json::value(lists);
  out["count"] = one ? counts[0] : json::value(counts);
  out["max_model_len"] = context.engine->options().context_length;
  return out;
}

awaitable<void> HandleTokenize(Context& context, http::Request& request, http::Responder& responder) {
  auto body = co_await ReadJson(request, responder, false);
  if (!body) co_return;
  const auto out = Tokenize(context, *body);
  if (!out.ok()) co_return co_await SendOpenAiError(responder, out.status(), "prompt");
  co_await SendJson(responder, *out);
}

Result<json::object> Detokenize(const Context& context, const json::value& body) {
  if (Status s = NeedTokenizer(context); !s.ok()) return s;
  if (!body.is_object()) return Error(Code::kInvalidArgument, "the request body must be a JSON object");
  api::FieldReader reader(body.get_object());
  bool skip_special = true;
  reader.Bool("skip_special_tokens", skip_special);
  const json::value* tokens = reader.Take("tokens");
  if (!reader.status().ok()) return reader.status();
  if (!tokens || !tokens->is_array()) return Error(Code::kInvalidArgument, "tokens must be an array of token ids");
  const bool nested = !tokens->get_array().empty() && tokens->get_array()[0].is_array();
  const json::array one{*tokens};
  json::array texts;
  for (const json::value& list : nested ? tokens->get_array() : one) {
    auto ids = api::AsTokenIds(list, "tokens");
    if (!ids.ok()) return ids.status();
    for (const int32_t id : *ids) {
      if (id >= context.text.tokenizer->vocab_size()) {
        return Error(Code::kInvalidArgument, "token id {} is outside of the vocabulary of {}", id, context.text.tokenizer->vocab_size());
      }
    }
    texts.push_back(json::string(context.text.tokenizer->Decode(*ids, skip_special)));
  }
  json::object out;
  out["text"] = nested ? json::value(std::move(texts)) : texts[0];
  return out;
}

awaitable<void> HandleDetokenize(Context& context, http::Request& request, http::Responder& responder) {
  auto body = co_await ReadJson(request, responder, false);
  if (!body) co_return;
  const auto out = Detokenize(context, *body);
  if (!out.ok()) co_return co_await SendOpenAiError(responder, out.status(), "tokens");
  co_await SendJson(responder, *out);
}

constexpr std::array kRoutes = {
    ControlRoute{"GET", "/health", HandleHealth},
    ControlRoute{"GET", "/ready", HandleHealth},
    ControlRoute{"GET", "/readiness", HandleHealth},
    ControlRoute{"GET", "/liveness", HandlePing},
    ControlRoute{"GET", "/health_generate", HandleHealthGenerate},
    ControlRoute{"GET", "/ping", HandlePing},
    ControlRoute{"GET", "/v1/models", HandleModels},
    ControlRoute{"GET", "/v1/models/*", HandleModel},
    ControlRoute{"GET", "/model_info", HandleModelInfo},
    ControlRoute{"GET", "/get_model_info", HandleModelInfo},
    ControlRoute{"GET", "/server_info", HandleServerInfo},
    ControlRoute{"GET", "/get_server_info", HandleServerInfo},
    ControlRoute{"GET", "/get_load", HandleGetLoad},
    ControlRoute{"GET", "/v1/loads", HandleLoads},
    ControlRoute{"GET", "/metrics", HandleMetrics},
    ControlRoute{"GET", "/flush_cache", HandleFlushCache},
    ControlRoute{"POST", "/flush_cache", HandleFlushCache},
    ControlRoute{"POST", "/abort_request", HandleAbort},
    ControlRoute{"POST", "/baton/v1/pair", HandlePair},
    ControlRoute{"POST", "/tokenize", HandleTokenize},
    ControlRoute{"POST", "/v1/tokenize", HandleTokenize},
    ControlRoute{"POST", "/detokenize", HandleDetokenize},
    ControlRoute{"POST", "/v1/detokenize", HandleDetokenize},
};

}  // namespace

std::span<const ControlRoute> ControlRoutes() { return kRoutes; }

awaitable<Status> ProbeEngine(Context& context, int tokens, Duration limit) {
  SequenceSpec spec;
  const int vocab = context.engine->model_config().vocab;
  for (int i = 0; i < 4; ++i) spec.prompt.push_back((10 + i) % vocab);
  spec.sampling.temperature = 0;
  spec.sampling.max_new_tokens = tokens;
  spec.sampling.ignore_eos = true;
  spec.bootstrap.host = api::kFakeBootstrapHost;
  spec.rid = "HEALTH_CHECK_" + api::NewRequestId();
  Generation generation(context, co_await boost::asio::this_coro::executor);
  std::vector<SequenceSpec> specs;
  specs.push_back(std::move(spec));
  if (Status s = generation.Start(std::move(specs)); !s.ok()) co_return s;
  const TimePoint end = Now() + limit;
  while (!generation.done()) {
    if ((co_await generation.Next(end)).empty()) {
      co_return Error(Code::kDeadlineExceeded, "the engine did not answer a probe in time");
    }
  }
  co_return generation.failure();
}

}  // namespace baton::server
