#include "router/worker_api.h"

#include <algorithm>
#include <cctype>
#include <charconv>

#include "common/json.h"
#include "router/prober.h"
#include "router/routes.h"
#include "router/worker_fields.h"

namespace baton::router {
namespace {

constexpr std::string_view kWorkersPrefix = "/workers/";

http::Response ApiError(int status, std::string_view code, std::string_view message) {
  http::Response response =
      JsonResponse(status, json::serialize(json::object{{"error", message}, {"code", code}}));
  response.headers.Set("X-SMG-Error-Code", std::string(code));
  return response;
}

http::Response ApiError(const Status& status) {
  switch (status.code()) {
    case Code::kNotFound: return ApiError(404, "WORKER_NOT_FOUND", status.message());
    case Code::kResourceExhausted: return ApiError(409, "WORKER_ALREADY_EXISTS", status.message());
    default: return ApiError(400, "BAD_REQUEST", status.message());
  }
}

json::object Describe(const WorkerView& view) {
  json::object o;
  o["id"] = view.worker->id();
  o["url"] = view.worker->url();
  if (view.worker->process()) {
    o["dp_rank"] = view.worker->rank();
    o["process_id"] = view.worker->process()->id();
  }
  o["model_id"] = view.config.model_id.empty() ? view.metadata.ModelId() : view.config.model_id;
  o["priority"] = view.config.priority;
  o["cost"] = view.config.cost;
  o["worker_type"] = RoleName(view.worker->role());
  o["is_healthy"] = view.healthy;
  if (!view.wrong_role.empty()) o["reason"] = view.wrong_role;
  if (view.draining) o["draining"] = true;
  o["load"] = view.load;
  if (view.reported.fresh) {
    o["reported_tokens"] = static_cast<int64_t>(view.reported.tokens);
    o["reported_waiting"] = view.reported.waiting;
    if (view.reported.free_tokens >= 0) o["free_tokens"] = view.reported.free_tokens;
  }
  o["connection_mode"] = "http";
  o["circuit_breaker"] = BreakerStateName(view.breaker);
  o["disable_health_check"] = view.config.disable_health_check;
  if (view.worker->role() == Role::kPrefill) {
    const auto port = view.config.bootstrap_port ? view.config.bootstrap_port : view.metadata.bootstrap_port;
    o["bootstrap_port"] = port ? json::value(*port) : json::value(nullptr);
  }
  json::object metadata;
  for (const auto& [key, value] : view.config.labels) metadata[key] = value;
  const auto note = [&](const char* key, const std::string& value) {
    if (!value.empty()) metadata[key] = value;
  };
  note("model_path", view.metadata.model_path);
  note("served_model_name", view.metadata.served_model_name);
  note("disaggregation_mode", view.metadata.disaggregation_mode);
  note("version", view.metadata.version);
  if (view.metadata.tp_size) metadata["tp_size"] = fmt::format("{}", *view.metadata.tp_size);
  if (view.metadata.dp_size) metadata["dp_size"] = fmt::format("{}", *view.metadata.dp_size);
  o["metadata"] = std::move(metadata);
  return o;
}

// There, adding a worker is a job that ends when the worker is ready; clients wait until this is gone.
json::object DescribeJob(const WorkerView& view) {
  json::object o;
  o["job_type"] = "AddWorker";
  o["worker_url"] = view.worker->url();
  o["status"] = view.wrong_role.empty() ? "processing" : "failed";
  if (!view.wrong_role.empty()) o["message"] = view.wrong_role;
  o["timestamp"] = view.added_s;
  return o;
}

Result<json::object> BodyObject(const http::Request& request) {
  auto parsed = json::Parse(request.body);
  if (!parsed.ok()) return parsed.status();
  if (!parsed->is_object()) return Error(Code::kInvalidArgument, "the body must be a JSON object");
  return std::move(parsed->get_object());
}

Result<WorkerPtr> AddAndProbe(const std::shared_ptr<Services>& services, WorkerConfig config) {
  auto worker = services->registry->Add(std::move(config));
  if (worker.ok()) StartProber(services, *worker);
  return worker;
}

http::Response Accepted(const WorkerPtr& worker, std::string_view what) {
  json::object body;
  body["status"] = "accepted";
  body["worker_id"] = worker->id();
  body["url"] = worker->url();
  body["location"] = "/workers/" + worker->id();
  body["message"] = what;
  http::Response response = JsonResponse(202, json::serialize(body));
  response.headers.Set("Location", "/workers/" + worker->id());
  return response;
}

asio::awaitable<http::Response> PostWorker(std::shared_ptr<Services> services, http::Request& request) {
  const auto body = BodyObject(request);
  if (!body.ok()) co_return ApiError(body.status());
  if (const Status known = CheckKnownFields(*body); !known.ok()) co_return ApiError(known);
  auto config = ReadNewWorker(services->options.pd_disaggregation, *body);
  if (!config.ok()) co_return ApiError(config.status());
  const auto worker = AddAndProbe(services, std::move(*config));
  if (!worker.ok()) co_return ApiError(worker.status());
  co_return Accepted(*worker, "worker registered; it takes requests once its health check succeeds");
}

asio::awaitable<http::Response> ListWorkers(std::shared_ptr<Services> services, http::Request&) {
  json::array workers;
  for (const WorkerView& view : services->registry->List()) workers.push_back(Describe(view));
  json::object stats;
  stats["prefill_count"] = services->registry->Counts(Role::kPrefill).total;
  stats["decode_count"] = services->registry->Counts(Role::kDecode).total;
  stats["regular_count"] = services->registry->Counts(Role::kRegular).total;
  json::object body;
  body["total"] = workers.size();
  body["workers"] = std::move(workers);
  body["stats"] = std::move(stats);
  co_return JsonResponse(200, json::serialize(body));
}

bool IsUuid(std::string_view text) {
  constexpr std::string_view kShape = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
  return text.size() == kShape.size() && std::equal(text.begin(), text.end(), kShape.begin(), [](char c, char shape) {
    return shape == 'x' ? std::isxdigit(static_cast<unsigned char>(c)) != 0 : c == shape;
  });
}

// By the id or the URL in the path.
Result<WorkerView> FindWorker(const Services& services, const http::Request& request) {
  const std::string_view name = std::string_view(request.path).substr(kWorkersPrefix.size());
  auto view = services.registry->View(name);
  if (view.ok() || IsUuid(name.substr(0, name.find('@'))) || name.find(':') != std::string_view::npos) return view;
  return Error(Code::kInvalidArgument, "\"{}\" is neither the id of a worker (a UUID, see GET /workers) nor a URL", name);
}

asio::awaitable<http::Response> GetWorker(std::shared_ptr<Services> services, http::Request& request) {
  const auto view = FindWorker(*services, request);
  if (!view.ok()) co_return ApiError(view.status());
  json::object body = Describe(*view);
  if (!view->was_healthy) body["job_status"] = DescribeJob(*view);
  co_return JsonResponse(200, json::serialize(body));
}

asio::awaitable<http::Response> PutWorker(std::shared_ptr<Services> services, http::Request& request) {
  const auto body = BodyObject(request);
  if (!body.ok()) co_return ApiError(body.status());
  const auto view = FindWorker(*services, request);
  if (!view.ok()) co_return ApiError(view.status());
  if (const Status known = CheckKnownFields(*body); !known.ok()) co_return ApiError(known);
  for (const char* fixed : {"url", "worker_type", "bootstrap_port", "disable_health_check"}) {
    if (!json::Find(*body, fixed)) continue;
    co_return ApiError(400, "BAD_REQUEST", fmt::format("{} of a worker cannot be changed: DELETE it and POST it again", fixed));
  }
  WorkerConfig changed = view->config;
  FieldReader reader(*body);
  reader.Text("api_key", &changed.api_key);
  reader.Text("model_id", &changed.model_id);
  reader.Integer("priority", &changed.priority);
  reader.Number("cost", &changed.cost);
  reader.TextMap("labels", &changed.labels);
  if (!reader.status().ok()) co_return ApiError(reader.status());
  const Status updated = services->registry->Update(view->worker->id(), [&](WorkerConfig& config) { config = changed; });
  if (!updated.ok()) co_return ApiError(updated);
  co_return Accepted(view->worker, "worker updated");
}

asio::awaitable<http::Response> DeleteWorker(std::shared_ptr<Services> services, http::Request& request) {
  const auto view = FindWorker(*services, request);
  if (!view.ok()) co_return ApiError(view.status());
  const Status removed = services->registry->Remove(view->worker->id());
  if (!removed.ok()) co_return ApiError(removed);
  co_return Accepted(view->worker, "worker removed; its running requests go on");
}

// 0.1.9's routes; worker_type and bootstrap_port are ours, since PD needs them.
asio::awaitable<http::Response> AddWorkerByQuery(std::shared_ptr<Services> services, http::Request& request) {
  json::object body;
  for (const char* key : {"url", "worker_type", "model_id", "api_key"}) {
    if (const std::string_view value = request.QueryValue(key); !value.empty()) body[key] = value;
  }
  if (const std::string_view text = request.QueryValue("bootstrap_port"); !text.empty()) {
    int64_t port = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
    const bool whole = error == std::errc() && end == text.data() + text.size();
    body["bootstrap_port"] = whole ? json::value(port) : json::value(text);
  }
  auto config = ReadNewWorker(services->options.pd_disaggregation, body);
  if (!config.ok()) co_return ApiError(config.status());
  const auto worker = AddAndProbe(services, std::move(*config));
  if (!worker.ok()) co_return ApiError(worker.status());
  co_return JsonResponse(200, json::serialize(json::value("Successfully added worker: " + (*worker)->url())));
}

asio::awaitable<http::Response> RemoveWorkerByQuery(std::shared_ptr<Services> services, http::Request& request) {
  const std::string url(request.QueryValue("url"));
  if (url.empty()) co_return ApiError(400, "BAD_REQUEST", "say which: /remove_worker?url=URL");
  const Status removed = services->registry->Remove(url);
  if (!removed.ok()) co_return ApiError(removed);
  co_return JsonResponse(200, json::serialize(json::value("Successfully removed worker: " + url)));
}

asio::awaitable<http::Response> ListWorkerUrls(std::shared_ptr<Services> services, http::Request&) {
  json::array urls;
  for (const WorkerView& view : services->registry->List()) urls.emplace_back(view.worker->url());
  co_return JsonResponse(200, json::serialize(json::object{{"urls", std::move(urls)}}));
}

}  // namespace

void InstallWorkerApi(std::shared_ptr<Services> services, http::Server& server) {
  AddRoute(services, server, "GET", "/workers", ListWorkers);
  AddRoute(services, server, "POST", "/workers", PostWorker);
  AddRoute(services, server, "GET", "/workers/*", GetWorker);
  AddRoute(services, server, "PUT", "/workers/*", PutWorker);
  AddRoute(services, server, "DELETE", "/workers/*", DeleteWorker);
  AddRoute(services, server, "POST", "/add_worker", AddWorkerByQuery);
  AddRoute(services, server, "POST", "/remove_worker", RemoveWorkerByQuery);
  AddRoute(services, server, "GET", "/list_workers", ListWorkerUrls);
}

}  // namespace baton::router
