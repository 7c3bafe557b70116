// An endpoint's abstract datagram socket: its address, its doorbell, and the way by which memfds
// (channels, shared regions) reach it. Vanishes with the process. The kernel vouches for the sender's process id.
#pragma once

#include <optional>
#include <string>

#include "common/status.h"

namespace baton::transfer::shm {

// A file descriptor, closed when it goes.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(other.Take()) {}
  Fd& operator=(Fd&& other) noexcept;
  ~Fd();
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  int Take() {
    const int fd = fd_;
    fd_ = -1;
    return fd;
  }

 private:
  int fd_ = -1;
};

// What a writer says about the memfd that travels beside it.
struct Notice {
  enum class Kind : uint64_t {
    kChannel = 1,  // the ring of its descriptors. 8 bytes of its memory at `place` hold `value`: the
                   // target tries whether it may read there
    kRegion,       // its region number `value`: `bytes` from `place` in the file
    kDevice,       // its region number `value` is in device memory: the file says where (devices.h)
  };
  uint64_t magic = 0;
  Kind kind{};
  uint64_t place = 0, value = 0, bytes = 0;
};

class Socket {
 public:
  // Binds to a fresh random name.
  Status Open();
  const std::string& name() const { return name_; }
  int fd() const { return fd_.get(); }

  // Wakes the endpoint of that name. Losing it is harmless when its queue is full: it is awake then.
  void Ring(const std::string& name) const;
  Status Send(const std::string& name, const Notice& notice, int file) const;

  struct Message {
    bool whole = false;  // a notice with its file; else a doorbell
    Notice notice;
    Fd file;
    int pid = 0;            // of the sender, in this process's namespace; 0 when it is outside
    std::string from;
  };
  std::optional<Message> Receive() const;

 private:
  Fd fd_;
  std::string name_;
};

}  // namespace baton::transfer::shm
