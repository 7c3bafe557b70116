// Socket calls that Asio has no cheap form for: gathered sends that do not wait, and a look at
// what an idle connection holds. Descriptors are borrowed.
#pragma once

#include <array>
#include <chrono>
#include <span>
#include <string>
#include <string_view>

#include <sys/uio.h>

namespace baton::http {

// Up to four pieces to be sent in order as one write. The bytes are borrowed.
class SendList {
 public:
  SendList() = default;
  void Add(std::string_view bytes) {
    if (bytes.empty()) return;
    parts_[count_++] = {const_cast<char*>(bytes.data()), bytes.size()};
  }
  bool empty() const { return first_ == count_; }
  std::span<iovec> parts() { return std::span(parts_).subspan(first_, count_ - first_); }
  void Consume(size_t n);

 private:
  std::array<iovec, 4> parts_;
  size_t first_ = 0;
  size_t count_ = 0;
};

enum class SendResult { kDone, kBlocked, kFailed };
// Sends what the kernel takes now. kFailed leaves errno in *error.
SendResult SendNow(int fd, SendList& list, int* error);

// True when a connection that should be quiet was closed, broke, or holds unasked bytes.
bool IsStale(int fd);

// Bytes that were sent but not yet taken by the peer.
size_t UnsentBytes(int fd);
// Has the peer's kernel said nothing for `silence` while it owes an acknowledgement? False when that
// cannot be told. A closed receive window does not count: such a peer answers probes.
bool IsUnacknowledged(int fd, std::chrono::milliseconds silence);

// No Nagle delay, and keep-alive probes that find a dead peer within about two minutes.
void TuneSocket(int fd);

std::string ErrnoText(int error);

}  // namespace baton::http
