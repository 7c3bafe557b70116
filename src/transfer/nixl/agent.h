// One NIXL agent with one backend: owns its handles, turns statuses into Status.
// Thread: one owner; it makes the progress, inside the calls (NIXL's progress thread stays off).
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/memory.h"
#include "transfer/nixl/library.h"

namespace baton::transfer::nixl {

// How NIXL names a place: its kind of memory and the device's number.
struct Place {
  MemoryType type = MemoryType::kDram;
  uint16_t device = 0;
  friend bool operator==(const Place&, const Place&) = default;
};
Place PlaceOf(const MemorySpan& memory);

// A descriptor list of one transfer, with the memory that it names.
struct Descriptor {
  uint64_t local = 0, remote = 0, bytes = 0;
};

class Agent {
 public:
  // `name` must be new to every peer: NIXL ignores metadata under a name that it knows.
  // kUnsupported names the backends that the library offers when it lacks `backend`.
  static Result<std::unique_ptr<Agent>> Open(std::shared_ptr<const Library> library,
                                             const std::string& name, const std::string& backend);
  ~Agent();  // takes back what is registered, then closes every connection
  Agent(const Agent&) = delete;
  Agent& operator=(const Agent&) = delete;

  const std::string& name() const { return name_; }

  // Memory by a number of the caller's. The same number twice is one registration.
  Status Register(uint32_t region, const MemorySpan& memory);
  void Deregister(uint32_t region);

  // What a peer's Load needs: with all that is registered, or to connect only.
  Result<std::string> Metadata();
  Result<std::string> ConnectionMetadata();
  // Gives the peer's name. Metadata comes from the peer and is judged by NIXL alone.
  Result<std::string> Load(std::string_view metadata);
  void Invalidate(const std::string& peer);

  // A write of many pieces that tells `notice` to the peer after the last byte. Null when NIXL
  // refuses, with `why`.
  RequestHandle* Post(const std::string& peer, Place local, Place remote,
                      const std::vector<Descriptor>& pieces, std::string_view notice, Status& why);
  // kSuccess, kInProgress or an error. Makes progress.
  CallStatus Check(RequestHandle* request);
  // Gives it up, finished or not. False when NIXL cannot stop it yet: it stays NIXL's.
  bool Release(RequestHandle* request);

  // Makes progress and calls on_notice(bytes) for each that came.
  template <typename OnNotice>
  void Progress(OnNotice on_notice) {
    if (library_->api.get_notifs(agent_, notices_, nullptr) < 0) return;
    ForEachNotice([](void* call, std::string_view bytes) { (*static_cast<OnNotice*>(call))(bytes); },
                  &on_notice);
  }

 private:
  Agent(std::shared_ptr<const Library> library, std::string name)
      : library_(std::move(library)), name_(std::move(name)) {}
  Status Start(const std::string& backend);
  std::string Plugins();
  void ForEachNotice(void (*on_notice)(void*, std::string_view), void* call);
  Result<std::string> Take(CallStatus status, void* data, size_t bytes, const char* call);

  const std::shared_ptr<const Library> library_;
  const std::string name_;
  AgentHandle* agent_ = nullptr;
  BackendHandle* backend_ = nullptr;
  OptArgsHandle* arguments_ = nullptr;
  NotifMapHandle* notices_ = nullptr;
  std::unordered_map<uint32_t, RegListHandle*> registered_;
};

}  // namespace baton::transfer::nixl
