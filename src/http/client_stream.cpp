#include "http/client_stream.h"

#include "http/head_parser.h"

namespace baton::http {

namespace {

constexpr int kMaxInterimResponses = 16;
// The kernel sends again after 0.2, 0.6 and 1.4 s: what is not acknowledged by then was not lost by chance.
constexpr std::chrono::milliseconds kAckTime{1'500};

}  // namespace

PooledStream::PooledStream(std::shared_ptr<ClientPool> pool,
                           std::shared_ptr<ClientConnection> connection)
    : pool_(std::move(pool)),
      connection_(std::move(connection)),
      epoch_(connection_->watchdog().epoch()) {}

PooledStream::~PooledStream() {
  if (!ended_) connection_->Close();
}

void PooledStream::Cancel() { connection_->watchdog().Interrupt(epoch_, Code::kCancelled); }

Status PooledStream::Corrupt(std::string_view what) {
  return Error(Code::kDataCorrupt, "{}: malformed response: {}", connection_->origin().ToString(),
               what);
}

Status PooledStream::ClosedEarly() {
  return Error(Code::kUnavailable, "{}: closed the connection in the middle of its answer",
               connection_->origin().ToString());
}

asio::awaitable<Status> PooledStream::Exchange(SendList request, bool head_request,
                                               TimePoint deadline, bool verify) {
  connection_->watchdog().SetDeadline(deadline);
  if (verify) connection_->watchdog().CheckAcks(Now() + kAckTime, kAckTime - std::chrono::milliseconds(100));
  const Status sent = co_await connection_->Write(request);
  if (!sent.ok() && sent.code() != Code::kUnavailable) co_return sent;
  // A server may answer and close before it has read everything (413): look for that answer.
  Status received = co_await ReadHead(head_request);
  if (!sent.ok() && !received.ok()) co_return sent;
  co_return received;
}

asio::awaitable<Status> PooledStream::ReadHead(bool head_request) {
  ReadBuffer& buffer = connection_->buffer();
  int interim = 0;
  size_t scanned = 0;
  while (true) {
    size_t end = 0;
    const HeadScan scan = FindHeadEnd(buffer.data(), scanned, end);
    if (scan == HeadScan::kBareLineFeed) co_return Corrupt("header line ends in a bare line feed");
    if (scan == HeadScan::kComplete) {
      scanned = 0;
      auto final_head = ParseHead(head_request, end);
      if (!final_head.ok()) co_return final_head.status();
      if (*final_head) co_return Status::Ok();
      if (++interim > kMaxInterimResponses) co_return Corrupt("too many 1xx responses");
      continue;
    }
    if (buffer.size() >= pool_->options().max_header_bytes)
      co_return Corrupt(fmt::format("its head is larger than {} bytes",
                                    pool_->options().max_header_bytes));
    const auto bytes = co_await connection_->Read();
    if (!bytes.ok()) co_return bytes.status();
    if (*bytes == 0)
      co_return Error(Code::kUnavailable, "{}: closed the connection before its answer was there",
                      connection_->origin().ToString());
    got_bytes_ = true;
  }
}

Result<bool> PooledStream::ParseHead(bool head_request, size_t head_bytes) {
  ReadBuffer& buffer = connection_->buffer();
  const std::string_view head = buffer.data().substr(0, head_bytes);
  if (const char* wrong = CheckHeadBytes(head)) return Corrupt(wrong);
  headers_ = Headers();
  ResponseHeadParser parser(&headers_);
  parser.skip(head_request);
  if (const auto ec = parser.Parse(head)) return Corrupt(ec.message());
  buffer.Consume(head_bytes);
  status_ = parser.status();
  if (status_ == 101) return Corrupt("101 to a request without Upgrade");
  if (status_ >= 100 && status_ < 200) return false;
  if (status_ < 100 || status_ > 599) return Corrupt(fmt::format("status {}", status_));
  Framing framing;
  if (const char* wrong = CheckFraming(headers_, parser.version(), framing)) return Corrupt(wrong);
  keep_alive_ = parser.keep_alive();
  if (head_request || status_ == 204 || status_ == 304) framing = {.length = 0};
  length_ = framing.length;
  if (framing.chunked) decoder_.emplace(UINT64_MAX);
  if (length_ == uint64_t{0}) EndMessage(keep_alive_);
  return true;
}

asio::awaitable<Result<std::string>> PooledStream::Read(TimePoint deadline) {
  std::string piece;
  if (!failure_.ok()) co_return failure_;
  if (ended_) co_return piece;
  connection_->watchdog().SetDeadline(deadline);
  failure_ = co_await ReadInto(&piece);
  if (!failure_.ok()) co_return failure_;
  co_return piece;
}

bool PooledStream::HandOut(Duration idle, const Sink& sink) {
  piece_.clear();
  failure_ = TakeBuffered(&piece_);
  if (!failure_.ok()) return false;
  if (piece_.empty()) return !ended_;
  if (!ended_) connection_->watchdog().SetDeadline(Now() + idle);
  return sink(piece_) && !ended_;
}

asio::awaitable<Status> PooledStream::ReadEach(TimePoint deadline, Duration idle, const Sink& sink) {
  if (!failure_.ok() || ended_) co_return failure_;
  connection_->watchdog().SetDeadline(deadline);
  if (!HandOut(idle, sink)) co_return failure_;
  const std::function<bool()> hand_out = [&] { return HandOut(idle, sink); };
  const Status read = co_await connection_->ReadWhile(hand_out);
  if (failure_.ok() && !ended_) failure_ = read;
  if (failure_.code() == Code::kNotFound) {  // the peer has closed
    failure_ = Status::Ok();
    EndMessage(false);
    if (decoder_ || length_) failure_ = ClosedEarly();
  }
  co_return failure_;
}

asio::awaitable<Result<std::string>> PooledStream::ReadAll(TimePoint deadline, size_t max_bytes) {
  std::string body;
  if (!failure_.ok()) co_return failure_;
  if (!ended_) connection_->watchdog().SetDeadline(deadline);
  if (length_ && !ended_) body.reserve(std::min<size_t>({*length_, max_bytes, 1 << 20}));
  while (!ended_) {
    failure_ = co_await ReadInto(&body);
    if (failure_.ok() && body.size() > max_bytes)
      failure_ = Error(Code::kTooLarge, "{}: the response body is larger than {} bytes",
                       connection_->origin().ToString(), max_bytes);
    if (!failure_.ok()) co_return failure_;
  }
  co_return body;
}

asio::awaitable<Status> PooledStream::ReadInto(std::string* out) {
  const size_t before = out->size();
  while (true) {
    if (Status status = TakeBuffered(out); !status.ok()) co_return status;
    if (ended_ || out->size() > before) co_return Status::Ok();
    const auto bytes = co_await connection_->Read();
    if (!bytes.ok()) co_return bytes.status();
    if (*bytes > 0) continue;
    if (decoder_ || length_) co_return ClosedEarly();
    EndMessage(false);
    co_return Status::Ok();
  }
}

Status PooledStream::TakeBuffered(std::string* out) {
  ReadBuffer& buffer = connection_->buffer();
  if (decoder_) {
    buffer.Consume(decoder_->Decode(buffer.data(), out));
    if (decoder_->error()) return Corrupt(decoder_->error());
    if (decoder_->done()) EndMessage(keep_alive_);
    return Status::Ok();
  }
  const size_t take = std::min<uint64_t>(buffer.size(), length_.value_or(UINT64_MAX));
  out->append(buffer.data().substr(0, take));
  buffer.Consume(take);
  if (length_) *length_ -= take;
  if (length_ == uint64_t{0}) EndMessage(keep_alive_);
  return Status::Ok();
}

void PooledStream::EndMessage(bool reusable) {
  if (ended_) return;
  ended_ = true;
  // Bytes after the message belong to no request: such a connection is not to be trusted.
  if (reusable && connection_->buffer().empty() && connection_->watchdog().EndUse()) {
    connection_->buffer().Shrink();
    pool_->Put(connection_);
  } else {
    connection_->Close();
  }
}

}  // namespace baton::http
