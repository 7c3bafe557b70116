// An endpoint's abstract datagram socket: its address, its doorbell, and the way by which channels
// (memfds) reach it. Vanishes with the process. The kernel vouches for the sender's process id.
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

// What a writer says when it opens a channel; the memfd travels beside it.
struct Greeting {
  uint64_t magic = 0;
  uint64_t probe_address = 0;  // 8 bytes of the writer's memory that hold `probe_value`:
  uint64_t probe_value = 0;    // the target tries whether it may read there
};

class Socket {
 public:
  // Binds to a fresh random name.
  Status Open();
  const std::string& name() const { return name_; }
  int fd() const { return fd_.get(); }

  // Wakes the endpoint of that name. Losing it is harmless when its queue is full: it is awake then.
  void Ring(const std::string& name) const;
  Status SendGreeting(const std::string& name, const Greeting& greeting, int channel) const;

  struct Message {
    bool greeting = false;  // else a doorbell
    Greeting body;
    Fd channel;
    int pid = 0;            // of the sender, in this process's namespace; 0 when it is outside
    std::string from;
  };
  std::optional<Message> Receive() const;

 private:
  Fd fd_;
  std::string name_;
};

}  // namespace baton::transfer::shm
