// A library with NIXL's C interface for the unit tests: agents of one process that copy memory.
//
// It keeps NIXL's rules as far as Baton relies on them: a write needs its source registered here and
// its target in metadata that was loaded; the notification comes after the bytes; a request whose
// target agent has gone fails; nothing happens but inside calls. Tests set faults with
// nixl_mock_set and look at counts with nixl_mock_get.
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "transfer/nixl/capi.h"

using namespace baton::transfer::nixl;

namespace baton::transfer::nixl {

struct Piece {
  uintptr_t address;
  size_t bytes;
  uint64_t device;
};
struct RegListHandle {
  MemoryType type;
  std::vector<Piece> pieces;
};
struct XferListHandle {
  MemoryType type;
  std::vector<Piece> pieces;
};
struct ParamsHandle {};
struct BackendHandle {};
struct StringListHandle {
  std::vector<std::string> names;
};
struct OptArgsHandle {
  bool has_notice = false;
  std::string notice;
};
struct NotifMapHandle {
  std::map<std::string, std::vector<std::string>> notices;
};
struct AgentHandle {
  std::string name;
  std::vector<Piece> registered;
  std::map<std::string, std::vector<Piece>> known;  // by peer: what its metadata names
  std::map<std::string, std::vector<std::string>> inbox;
};
struct RequestHandle {
  std::vector<Piece> from, to;
  std::string target, notice;
  int checks_left = 0;
  bool posted = false, finished = false;
};

}  // namespace baton::transfer::nixl

namespace {

std::map<std::string, AgentHandle*>& Agents() {
  static std::map<std::string, AgentHandle*> agents;
  return agents;
}
std::map<std::string, int>& Settings() {
  static std::map<std::string, int> settings;
  return settings;
}
bool Faulty(const char* what) { return Settings()[what] != 0; }

bool Covers(const std::vector<Piece>& pieces, const Piece& wanted) {
  for (const Piece& piece : pieces)
    if (wanted.address >= piece.address && wanted.device == piece.device &&
        wanted.address + wanted.bytes <= piece.address + piece.bytes)
      return true;
  return false;
}

CallStatus Give(const std::string& text, void** data, size_t* bytes) {
  *data = std::malloc(text.size() + 1);
  std::memcpy(*data, text.data(), text.size());
  *bytes = text.size();
  return kSuccess;
}

}  // namespace

extern "C" {

void nixl_mock_set(const char* name, int value) { Settings()[name] = value; }
int nixl_mock_get(const char* name) {
  return std::strcmp(name, "agents") == 0 ? static_cast<int>(Agents().size()) : Settings()[name];
}

bool nixl_capi_is_stub() { return false; }

CallStatus nixl_capi_create_configured_agent(const char* name, const AgentConfig* config,
                                             AgentHandle** agent) {
  if (config->progress_thread || config->listen_thread) return -1;
  *agent = new AgentHandle{name, {}, {}, {}};
  Agents()[name] = *agent;
  return kSuccess;
}
CallStatus nixl_capi_destroy_agent(AgentHandle* agent) {
  Agents().erase(agent->name);
  delete agent;
  return kSuccess;
}
CallStatus nixl_capi_get_available_plugins(AgentHandle*, StringListHandle** list) {
  *list = new StringListHandle{{"UCX", "SHAKING"}};
  return kSuccess;
}
CallStatus nixl_capi_string_list_size(StringListHandle* list, size_t* size) {
  *size = list->names.size();
  return kSuccess;
}
CallStatus nixl_capi_string_list_get(StringListHandle* list, size_t i, const char** name) {
  *name = list->names[i].c_str();
  return kSuccess;
}
CallStatus nixl_capi_destroy_string_list(StringListHandle* list) {
  delete list;
  return kSuccess;
}
CallStatus nixl_capi_create_params(ParamsHandle** params) {
  *params = new ParamsHandle;
  return kSuccess;
}
CallStatus nixl_capi_destroy_params(ParamsHandle* params) {
  delete params;
  return kSuccess;
}
CallStatus nixl_capi_create_backend(AgentHandle*, const char* plugin, ParamsHandle*,
                                    BackendHandle** backend) {
  const std::string name = plugin;
  if (name != "UCX" && name != "SHAKING") return -2;
  *backend = new BackendHandle;
  return kSuccess;
}
CallStatus nixl_capi_destroy_backend(BackendHandle* backend) {
  delete backend;
  return kSuccess;
}
CallStatus nixl_capi_create_opt_args(OptArgsHandle** arguments) {
  *arguments = new OptArgsHandle;
  return kSuccess;
}
CallStatus nixl_capi_destroy_opt_args(OptArgsHandle* arguments) {
  delete arguments;
  return kSuccess;
}
CallStatus nixl_capi_opt_args_set_has_notif(OptArgsHandle* arguments, bool on) {
  arguments->has_notice = on;
  return kSuccess;
}
CallStatus nixl_capi_opt_args_set_notif_msg(OptArgsHandle* arguments, const void* data, size_t bytes) {
  arguments->notice.assign(static_cast<const char*>(data), bytes);
  return kSuccess;
}

CallStatus nixl_capi_create_reg_dlist(MemoryType type, RegListHandle** list) {
  *list = new RegListHandle{type, {}};
  return kSuccess;
}
CallStatus nixl_capi_destroy_reg_dlist(RegListHandle* list) {
  delete list;
  return kSuccess;
}
CallStatus nixl_capi_reg_dlist_add_desc(RegListHandle* list, uintptr_t address, size_t bytes,
                                        uint64_t device, const void*, size_t) {
  list->pieces.push_back({address, bytes, device});
  return kSuccess;
}
CallStatus nixl_capi_register_mem(AgentHandle* agent, RegListHandle* list, OptArgsHandle*) {
  if (Faulty("fail_register") || list->type != MemoryType::kDram) return -2;
  for (const Piece& piece : list->pieces) agent->registered.push_back(piece);
  return kSuccess;
}
CallStatus nixl_capi_deregister_mem(AgentHandle* agent, RegListHandle* list, OptArgsHandle*) {
  std::erase_if(agent->registered, [&](const Piece& piece) {
    return piece.address == list->pieces[0].address && piece.bytes == list->pieces[0].bytes;
  });
  return kSuccess;
}

// Metadata: the name, a zero byte, the registered pieces as they lie in memory.
CallStatus nixl_capi_get_local_md(AgentHandle* agent, void** data, size_t* bytes) {
  std::string text = agent->name;
  text.push_back('\0');
  text.append(reinterpret_cast<const char*>(agent->registered.data()),
              agent->registered.size() * sizeof(Piece));
  return Give(text, data, bytes);
}
CallStatus nixl_capi_get_local_partial_md(AgentHandle* agent, RegListHandle*, void** data,
                                          size_t* bytes, OptArgsHandle*) {
  return Give(agent->name + '\0', data, bytes);
}
CallStatus nixl_capi_load_remote_md(AgentHandle* agent, const void* data, size_t bytes, char** name) {
  const std::string text(static_cast<const char*>(data), bytes);
  const size_t end = text.find('\0');
  if (end == std::string::npos || Faulty("fail_load")) return -2;
  const std::string peer = text.substr(0, end);
  if (agent->known.contains(peer)) return -1;  // as NIXL: one name, one connection
  std::vector<Piece> pieces((text.size() - end - 1) / sizeof(Piece));
  if (!pieces.empty()) std::memcpy(pieces.data(), text.data() + end + 1, pieces.size() * sizeof(Piece));
  agent->known[peer] = std::move(pieces);
  *name = strdup(peer.c_str());
  return kSuccess;
}
CallStatus nixl_capi_invalidate_remote_md(AgentHandle* agent, const char* peer) {
  return agent->known.erase(peer) ? kSuccess : -2;
}

CallStatus nixl_capi_create_xfer_dlist(MemoryType type, XferListHandle** list) {
  *list = new XferListHandle{type, {}};
  return kSuccess;
}
CallStatus nixl_capi_destroy_xfer_dlist(XferListHandle* list) {
  delete list;
  return kSuccess;
}
CallStatus nixl_capi_xfer_dlist_add_desc(XferListHandle* list, uintptr_t address, size_t bytes,
                                         uint64_t device) {
  list->pieces.push_back({address, bytes, device});
  return kSuccess;
}
CallStatus nixl_capi_create_xfer_req(AgentHandle* agent, Operation operation, XferListHandle* from,
                                     XferListHandle* to, const char* peer, RequestHandle** request,
                                     OptArgsHandle* arguments) {
  const auto known = agent->known.find(peer);
  if (operation != Operation::kWrite || known == agent->known.end() ||
      from->pieces.size() != to->pieces.size() || !arguments->has_notice)
    return -2;
  for (size_t i = 0; i < from->pieces.size(); ++i)
    if (!Covers(agent->registered, from->pieces[i]) || !Covers(known->second, to->pieces[i])) return -2;
  *request = new RequestHandle;
  (*request)->from = from->pieces;
  (*request)->to = to->pieces;
  (*request)->target = peer;
  (*request)->notice = arguments->notice;
  (*request)->checks_left = Settings()["checks"];
  ++Settings()["requests"];
  return kSuccess;
}
CallStatus nixl_capi_post_xfer_req(AgentHandle*, RequestHandle* request, OptArgsHandle*) {
  if (Faulty("fail_post")) return -2;
  request->posted = true;
  return kInProgress;
}
CallStatus nixl_capi_get_xfer_status(AgentHandle* agent, RequestHandle* request) {
  if (request->finished) return kSuccess;
  if (Faulty("fail_status")) return -2;
  if (Faulty("stall") || request->checks_left-- > 0) return kInProgress;
  const auto target = Agents().find(request->target);
  if (target == Agents().end()) return -2;
  if (Faulty("shake_hands") && !target->second->known.contains(agent->name)) return kInProgress;
  for (size_t i = 0; i < request->from.size(); ++i) {
    if (!Covers(target->second->registered, request->to[i])) return -2;
    std::memcpy(reinterpret_cast<void*>(request->to[i].address),
                reinterpret_cast<const void*>(request->from[i].address), request->from[i].bytes);
  }
  target->second->inbox[agent->name].push_back(request->notice);
  request->finished = true;
  return kSuccess;
}
CallStatus nixl_capi_release_xfer_req(AgentHandle*, RequestHandle* request) {
  if (Faulty("fail_release") && !request->finished) return -2;
  return kSuccess;
}
CallStatus nixl_capi_destroy_xfer_req(RequestHandle* request) {
  delete request;
  return kSuccess;
}

CallStatus nixl_capi_create_notif_map(NotifMapHandle** map) {
  *map = new NotifMapHandle;
  return kSuccess;
}
CallStatus nixl_capi_destroy_notif_map(NotifMapHandle* map) {
  delete map;
  return kSuccess;
}
CallStatus nixl_capi_get_notifs(AgentHandle* agent, NotifMapHandle* map, OptArgsHandle*) {
  if (Faulty("garbage_notice") && !agent->registered.empty()) map->notices["x"].push_back("garbage");
  for (auto& [name, notices] : agent->inbox)
    for (std::string& notice : notices) map->notices[name].push_back(std::move(notice));
  agent->inbox.clear();
  return kSuccess;
}
CallStatus nixl_capi_notif_map_size(NotifMapHandle* map, size_t* size) {
  *size = map->notices.size();
  return kSuccess;
}
CallStatus nixl_capi_notif_map_get_agent_at(NotifMapHandle* map, size_t i, const char** name) {
  *name = std::next(map->notices.begin(), static_cast<long>(i))->first.c_str();
  return kSuccess;
}
CallStatus nixl_capi_notif_map_get_notifs_size(NotifMapHandle* map, const char* name, size_t* size) {
  *size = map->notices[name].size();
  return kSuccess;
}
CallStatus nixl_capi_notif_map_get_notif(NotifMapHandle* map, const char* name, size_t i,
                                         const void** data, size_t* bytes) {
  const std::string& notice = map->notices[name][i];
  *data = notice.data();
  *bytes = notice.size();
  return kSuccess;
}
CallStatus nixl_capi_notif_map_clear(NotifMapHandle* map) {
  map->notices.clear();
  return kSuccess;
}

}  // extern "C"
