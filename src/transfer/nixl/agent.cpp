#include "transfer/nixl/agent.h"

#include <fmt/ranges.h>

#include <cstdlib>
#include <filesystem>

namespace baton::transfer::nixl {
namespace {

Status Refused(const char* call, CallStatus status) {
  return Error(Code::kUnavailable, "NIXL {} failed with status {} (NIXL_LOG_LEVEL=DEBUG tells more)",
               call, status);
}

}  // namespace

Place PlaceOf(const MemorySpan& memory) {
  if (memory.device == DeviceKind::kHost) return {};
  return {MemoryType::kVram, static_cast<uint16_t>(memory.device_index)};
}

Result<std::unique_ptr<Agent>> Agent::Open(std::shared_ptr<const Library> library,
                                           const std::string& name, const std::string& backend) {
  std::unique_ptr<Agent> agent(new Agent(std::move(library), name));
  if (Status s = agent->Start(backend); !s.ok()) return s;
  return agent;
}

Status Agent::Start(const std::string& backend) {
  const Api& api = library_->api;
  const AgentConfig config;
  if (const CallStatus s = api.create_configured_agent(name_.c_str(), &config, &agent_); s != kSuccess)
    return Refused("create agent", s);
  ParamsHandle* params = nullptr;
  if (const CallStatus s = api.create_params(&params); s != kSuccess)
    return Refused("create params", s);
  const CallStatus created = api.create_backend(agent_, backend.c_str(), params, &backend_);
  api.destroy_params(params);
  if (created != kSuccess)
    return Error(Code::kUnsupported,
                 "NIXL {} ({}) cannot open backend \"{}\" (status {}): its folder of plugins offers "
                 "{}; one that is listed lacks a library of its own or found no device. Choose with "
                 "--nixl-backend, or name another folder of plugins with NIXL_PLUGIN_DIR",
                 library_->version, library_->file, backend, created, Plugins());
  if (api.create_opt_args(&arguments_) != kSuccess || api.create_notif_map(&notices_) != kSuccess ||
      api.opt_args_set_has_notif(arguments_, true) != kSuccess)
    return Error(Code::kUnavailable, "NIXL {}: out of handles", library_->version);
  return Status::Ok();
}

Agent::~Agent() {
  const Api& api = library_->api;
  while (!registered_.empty()) Deregister(registered_.begin()->first);
  if (notices_) api.destroy_notif_map(notices_);
  if (arguments_) api.destroy_opt_args(arguments_);
  if (backend_) api.destroy_backend(backend_);  // the wrapper only: the agent owns the backend
  if (agent_) api.destroy_agent(agent_);
}

std::string Agent::Plugins() {
  const Api& api = library_->api;
  StringListHandle* list = nullptr;
  size_t count = 0;
  std::vector<std::string> names;
  if (api.get_available_plugins(agent_, &list) != kSuccess) return "none";
  api.string_list_size(list, &count);
  for (size_t i = 0; i < count; ++i) {
    const char* name = nullptr;
    if (api.string_list_get(list, i, &name) == kSuccess && name) names.emplace_back(name);
  }
  api.destroy_string_list(list);
  return names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", "));
}

Status Agent::Register(uint32_t region, const MemorySpan& memory) {
  if (registered_.contains(region)) return Status::Ok();
  const Api& api = library_->api;
  const Place place = PlaceOf(memory);
  RegListHandle* list = nullptr;
  if (const CallStatus s = api.create_reg_dlist(place.type, &list); s != kSuccess)
    return Refused("create list", s);
  CallStatus status = api.reg_dlist_add_desc(list, reinterpret_cast<uintptr_t>(memory.data),
                                             memory.size_bytes, place.device, nullptr, 0);
  if (status == kSuccess) status = api.register_mem(agent_, list, nullptr);
  if (status != kSuccess) {
    api.destroy_reg_dlist(list);
    return Error(Code::kUnsupported,
                 "NIXL cannot register {} bytes of {} memory (status {}): is the locked-memory limit "
                 "(ulimit -l) high enough{}?", memory.size_bytes,
                 place.type == MemoryType::kVram ? "CUDA" : "host", status,
                 place.type == MemoryType::kVram ? ", and was its backend built with CUDA" : "");
  }
  registered_[region] = list;
  return Status::Ok();
}

void Agent::Deregister(uint32_t region) {
  const auto found = registered_.find(region);
  if (found == registered_.end()) return;
  library_->api.deregister_mem(agent_, found->second, nullptr);
  library_->api.destroy_reg_dlist(found->second);
  registered_.erase(found);
}

Result<std::string> Agent::Take(CallStatus status, void* data, size_t bytes, const char* call) {
  if (status != kSuccess) return Refused(call, status);
  std::string text(static_cast<const char*>(data), bytes);
  std::free(data);
  return text;
}

Result<std::string> Agent::Metadata() {
  void* data = nullptr;
  size_t bytes = 0;
  const CallStatus status = library_->api.get_local_md(agent_, &data, &bytes);
  return Take(status, data, bytes, "get metadata");
}

Result<std::string> Agent::ConnectionMetadata() {
  const Api& api = library_->api;
  RegListHandle* none = nullptr;  // an empty list asks for the connection alone
  if (const CallStatus s = api.create_reg_dlist(MemoryType::kDram, &none); s != kSuccess)
    return Refused("create list", s);
  void* data = nullptr;
  size_t bytes = 0;
  const CallStatus status = api.get_local_partial_md(agent_, none, &data, &bytes, nullptr);
  api.destroy_reg_dlist(none);
  return Take(status, data, bytes, "get partial metadata");
}

Result<std::string> Agent::Load(std::string_view metadata) {
  char* name = nullptr;
  const CallStatus status =
      library_->api.load_remote_md(agent_, metadata.data(), metadata.size(), &name);
  if (status != kSuccess) return Refused("load metadata of the peer", status);
  std::string peer = name;
  std::free(name);
  return peer;
}

void Agent::Invalidate(const std::string& peer) {
  library_->api.invalidate_remote_md(agent_, peer.c_str());
}

RequestHandle* Agent::Post(const std::string& peer, Place local, Place remote,
                           const std::vector<Descriptor>& pieces, std::string_view notice,
                           Status& why) {
  const Api& api = library_->api;
  XferListHandle *from = nullptr, *to = nullptr;
  RequestHandle* request = nullptr;
  CallStatus status = api.create_xfer_dlist(local.type, &from);
  if (status == kSuccess) status = api.create_xfer_dlist(remote.type, &to);
  for (const Descriptor& piece : pieces) {
    if (status == kSuccess)
      status = api.xfer_dlist_add_desc(from, piece.local, piece.bytes, local.device);
    if (status == kSuccess)
      status = api.xfer_dlist_add_desc(to, piece.remote, piece.bytes, remote.device);
  }
  if (status == kSuccess)
    status = api.opt_args_set_notif_msg(arguments_, notice.data(), notice.size());
  if (status == kSuccess)
    status = api.create_xfer_req(agent_, Operation::kWrite, from, to, peer.c_str(), &request,
                                 arguments_);
  if (from) api.destroy_xfer_dlist(from);
  if (to) api.destroy_xfer_dlist(to);
  if (status != kSuccess) {
    why = Refused("create request", status);
    return nullptr;
  }
  // Done at once or in progress: Check tells.
  status = api.post_xfer_req(agent_, request, nullptr);
  if (status >= 0) return request;
  why = Refused("post request", status);
  Release(request);
  return nullptr;
}

CallStatus Agent::Check(RequestHandle* request) {
  return library_->api.get_xfer_status(agent_, request);
}

bool Agent::Release(RequestHandle* request) {
  if (library_->api.release_xfer_req(agent_, request) != kSuccess) return false;
  library_->api.destroy_xfer_req(request);
  return true;
}

void Agent::ForEachNotice(void (*on_notice)(void*, std::string_view), void* call) {
  const Api& api = library_->api;
  size_t writers = 0;
  if (api.notif_map_size(notices_, &writers) != kSuccess || writers == 0) return;
  for (size_t i = 0; i < writers; ++i) {
    const char* name = nullptr;
    size_t count = 0;
    if (api.notif_map_get_agent_at(notices_, i, &name) != kSuccess ||
        api.notif_map_get_notifs_size(notices_, name, &count) != kSuccess)
      continue;
    for (size_t n = 0; n < count; ++n) {
      const void* data = nullptr;
      size_t bytes = 0;
      if (api.notif_map_get_notif(notices_, name, n, &data, &bytes) == kSuccess)
        on_notice(call, {static_cast<const char*>(data), bytes});
    }
  }
  api.notif_map_clear(notices_);
}

}  // namespace baton::transfer::nixl
