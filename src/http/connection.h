// One client connection: reads requests, runs their handlers one after another.
//
// A state machine on completion handlers rather than a coroutine, so that a quiet connection costs
// its read buffer and nothing else. Exactly one read is outstanding at nearly all times, also while
// a handler runs: that read is how a vanished client is noticed at once, and when the client
// behaves it simply becomes the first read of the next request. It stops only when a pipelining
// client has filled the buffer. All on the connection's strand.
//
// The end of the client's sending side counts as its disconnect: a client that died looks just the
// same. Handlers are told; an answer sent whole is still written in case the client only half
// closed.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "http/chunk_decoder.h"
#include "http/read_buffer.h"
#include "http/reply.h"
#include "http/request_check.h"
#include "http/server_core.h"
#include "http/transport.h"

namespace baton::http {

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(std::shared_ptr<ServerCore> core, TcpSocket socket);
  ~Connection();

  asio::any_io_executor executor() { return transport_.executor(); }

  void Start();
  // Answers 503 and closes.
  void Refuse();
  // Closes when idle, otherwise after the answer under way.
  void Drain();
  void Abort();

 private:
  enum class State { kHandshake, kHead, kBody, kHandling, kLinger, kClosed };

  void BeginTls();
  void AdvanceTls();
  void RefuseTls();
  template <typename Next>
  void Await(TcpSocket::wait_type what, Next next);

  void Read();
  std::span<char> ReadRoom();
  void ReadTls(std::span<char> room);
  void TakeTls(std::span<char> room);
  void OnRead(const boost::system::error_code& ec, size_t bytes);
  void OnReadEnd();
  void OnDeadline(Transport::Wait what);

  // Each takes what the buffer has and returns true when it got further.
  void Advance();
  bool AdvanceHead();
  bool AdvanceBody();
  bool AdvanceFixedBody();
  bool AdvanceChunkedBody();
  bool ParseHead(std::string_view head);
  bool StartBody();
  bool HoldBody(size_t bytes);
  void RejectForRoom();
  void MakeBodyRoom();
  void OnBodyWindow();

  void Dispatch();
  asio::awaitable<void> Serve();
  void Finish();
  void OpenRequest();
  void CloseRequest();
  void DropRequest();

  void Reject(int status, std::string_view message);
  void Linger();
  void Close();

  const std::shared_ptr<ServerCore> core_;
  Transport transport_;
  Reply reply_;
  State state_ = State::kHead;
  ReadBuffer buffer_;
  size_t scanned_ = 0;
  bool reading_ = false;
  bool reading_body_ = false;  // the outstanding read goes straight into request_.body
  bool request_open_ = false;
  bool peer_closed_ = false;

  Request request_;
  bool http10_ = false;
  bool wants_keep_alive_ = true;
  Framing framing_;
  std::optional<ChunkDecoder> decoder_;
  size_t body_received_ = 0;
  size_t body_seen_ = 0;      // at the beginning of this window
  TimePoint body_deadline_{};
  BodyShare body_share_;
  std::optional<Response> refusal_;  // the filter's
  std::string peer_;
};

}  // namespace baton::http
