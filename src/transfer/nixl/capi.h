// The part of NIXL's C interface that Baton calls, declared from its facts so that nothing of NIXL
// is needed to build: the symbols `nixl_capi_*` of libnixl_capi.so (the library behind NIXL's Rust
// bindings, shipped in the PyPI wheels since 1.0; checked against 1.5.1 and the sources of 1.4).
//
// All handles are opaque. Every call returns a status: 0 done, 1 in progress, below 0 an error
// (which one is not reliable across versions: older ones fold most into -2).
// Blobs and names that calls return are from malloc and the caller's to free.
#pragma once

#include <cstddef>
#include <cstdint>

namespace baton::transfer::nixl {

using CallStatus = int;
inline constexpr CallStatus kSuccess = 0, kInProgress = 1;

enum class MemoryType : int { kDram = 0, kVram = 1 };
enum class Operation : int { kRead = 0, kWrite = 1 };

struct AgentHandle;
struct BackendHandle;
struct ParamsHandle;
struct MemListHandle;
struct StringListHandle;
struct OptArgsHandle;
struct RegListHandle;
struct XferListHandle;
struct RequestHandle;
struct NotifMapHandle;

// Layout of nixl_capi_agent_config_t, 1.0 to 1.5.
struct AgentConfig {
  bool progress_thread = false;
  bool listen_thread = false;
  int listen_port = 0;
  int thread_sync = 0;  // none: one thread calls
  unsigned workers = 1;
  uint64_t progress_delay_us = 0;
  uint64_t listen_delay_us = 0;
  bool telemetry = false;
  std::byte spare[64] = {};  // room for what later versions append
};

// One pointer for each function, named as it is behind "nixl_capi_".
struct Api {
  bool (*is_stub)();
  CallStatus (*create_configured_agent)(const char* name, const AgentConfig*, AgentHandle**);
  CallStatus (*destroy_agent)(AgentHandle*);
  CallStatus (*get_local_md)(AgentHandle*, void** data, size_t* bytes);
  CallStatus (*get_local_partial_md)(AgentHandle*, RegListHandle*, void** data, size_t* bytes,
                                     OptArgsHandle*);
  CallStatus (*load_remote_md)(AgentHandle*, const void* data, size_t bytes, char** agent_name);
  CallStatus (*invalidate_remote_md)(AgentHandle*, const char* agent_name);
  CallStatus (*get_available_plugins)(AgentHandle*, StringListHandle**);
  CallStatus (*string_list_size)(StringListHandle*, size_t*);
  CallStatus (*string_list_get)(StringListHandle*, size_t index, const char**);
  CallStatus (*destroy_string_list)(StringListHandle*);
  CallStatus (*create_params)(ParamsHandle**);
  CallStatus (*destroy_params)(ParamsHandle*);
  CallStatus (*create_backend)(AgentHandle*, const char* plugin, ParamsHandle*, BackendHandle**);
  CallStatus (*destroy_backend)(BackendHandle*);
  CallStatus (*create_opt_args)(OptArgsHandle**);
  CallStatus (*destroy_opt_args)(OptArgsHandle*);
  CallStatus (*opt_args_set_notif_msg)(OptArgsHandle*, const void* data, size_t bytes);
  CallStatus (*opt_args_set_has_notif)(OptArgsHandle*, bool);
  CallStatus (*register_mem)(AgentHandle*, RegListHandle*, OptArgsHandle*);
  CallStatus (*deregister_mem)(AgentHandle*, RegListHandle*, OptArgsHandle*);
  CallStatus (*create_reg_dlist)(MemoryType, RegListHandle**);
  CallStatus (*destroy_reg_dlist)(RegListHandle*);
  CallStatus (*reg_dlist_add_desc)(RegListHandle*, uintptr_t address, size_t bytes, uint64_t device,
                                   const void* metadata, size_t metadata_bytes);
  CallStatus (*create_xfer_dlist)(MemoryType, XferListHandle**);
  CallStatus (*destroy_xfer_dlist)(XferListHandle*);
  CallStatus (*xfer_dlist_add_desc)(XferListHandle*, uintptr_t address, size_t bytes,
                                    uint64_t device);
  CallStatus (*create_xfer_req)(AgentHandle*, Operation, XferListHandle* local,
                                XferListHandle* remote, const char* remote_agent, RequestHandle**,
                                OptArgsHandle*);
  CallStatus (*post_xfer_req)(AgentHandle*, RequestHandle*, OptArgsHandle*);
  CallStatus (*get_xfer_status)(AgentHandle*, RequestHandle*);
  CallStatus (*release_xfer_req)(AgentHandle*, RequestHandle*);
  CallStatus (*destroy_xfer_req)(RequestHandle*);  // after a release that succeeded
  CallStatus (*create_notif_map)(NotifMapHandle**);
  CallStatus (*destroy_notif_map)(NotifMapHandle*);
  CallStatus (*get_notifs)(AgentHandle*, NotifMapHandle*, OptArgsHandle*);
  CallStatus (*notif_map_size)(NotifMapHandle*, size_t*);
  CallStatus (*notif_map_get_agent_at)(NotifMapHandle*, size_t index, const char**);
  CallStatus (*notif_map_get_notifs_size)(NotifMapHandle*, const char* agent_name, size_t*);
  CallStatus (*notif_map_get_notif)(NotifMapHandle*, const char* agent_name, size_t index,
                                    const void** data, size_t* bytes);
  CallStatus (*notif_map_clear)(NotifMapHandle*);
};

}  // namespace baton::transfer::nixl
