// The response side of one request: reads the head, then hands out the body. Belongs to one
// coroutine; Cancel comes from any thread.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "http/client_pool.h"
#include "http/chunk_decoder.h"
#include "http/request_check.h"

namespace baton::http {

class PooledStream final : public ClientStream {
 public:
  PooledStream(std::shared_ptr<ClientPool> pool, std::shared_ptr<ClientConnection> connection);
  ~PooledStream() override;

  // Sends the request and reads the head of the final response (1xx are skipped).
  // With `verify` the peer must acknowledge soon, or the connection counts as dead (kUnavailable).
  asio::awaitable<Status> Exchange(SendList request, bool head_request, TimePoint deadline, bool verify = false);
  // After a failed Exchange: whether any byte of a response had come.
  bool got_bytes() const { return got_bytes_; }
  // ... and whether it failed because nothing was acknowledged: nobody has read the request.
  bool unacknowledged() const { return connection_->watchdog().reason() == Code::kUnavailable; }

  int status() const override { return status_; }
  const Headers& headers() const override { return headers_; }
  asio::awaitable<Result<std::string>> Read(TimePoint deadline) override;
  asio::awaitable<Status> ReadEach(TimePoint deadline, Duration idle, const Sink& sink) override;
  bool ended() const override { return ended_; }
  asio::awaitable<Result<std::string>> ReadAll(TimePoint deadline, size_t max_bytes) override;
  void Cancel() override;

 private:
  // Takes a whole head out of the buffer; false when it was an interim (1xx) one.
  Result<bool> ParseHead(bool head_request, size_t head_bytes);
  asio::awaitable<Status> ReadHead(bool head_request);
  // Appends the next bytes of the body to *out; with nothing appended the body is at its end.
  asio::awaitable<Status> ReadInto(std::string* out);
  Status TakeBuffered(std::string* out);
  // What is buffered to `sink`. False: no further piece is wanted or to be had (failure_, ended_).
  bool HandOut(Duration idle, const Sink& sink);
  void EndMessage(bool reusable);
  Status Corrupt(std::string_view what);
  Status ClosedEarly();

  const std::shared_ptr<ClientPool> pool_;
  const std::shared_ptr<ClientConnection> connection_;
  const uint64_t epoch_;
  int status_ = 0;
  bool keep_alive_ = false;
  std::optional<ChunkDecoder> decoder_;
  std::optional<uint64_t> length_;  // what is left of it; neither of the two: until close
  Headers headers_;
  std::string piece_;  // of ReadEach
  Status failure_;
  bool got_bytes_ = false;
  bool ended_ = false;
};

}  // namespace baton::http
