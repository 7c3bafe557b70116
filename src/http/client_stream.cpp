#include "http/client_stream.h"

#include "http/request_check.h"

namespace baton::http {

namespace {

constexpr size_t kMaxChunkHeadBytes = 16 << 10;
constexpr int kMaxInterimResponses = 16;

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

asio::awaitable<Status> PooledStream::Exchange(SendList request, bool head_request,
                                               TimePoint deadline) {
  connection_->watchdog().SetDeadline(deadline);
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
  parser_.emplace(&headers_, nullptr, UINT64_MAX);
  parser_->skip(head_request);
  boost::system::error_code ec;
  parser_->put(asio::buffer(head.data(), head.size()), ec);
  if (ec && ec != boost::beast::http::error::need_more) return Corrupt(ec.message());
  buffer.Consume(head_bytes);
  const int status = parser_->status();
  if (status == 101) return Corrupt("101 to a request without Upgrade");
  if (status >= 100 && status < 200) return false;
  if (status < 100 || status > 599) return Corrupt(fmt::format("status {}", status));
  Framing framing;
  if (const char* wrong = CheckFraming(headers_, parser_->version(), framing))
    return Corrupt(wrong);
  if (parser_->is_done()) EndMessage(parser_->keep_alive());
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

asio::awaitable<Result<std::string>> PooledStream::ReadAll(TimePoint deadline, size_t max_bytes) {
  std::string body;
  if (!failure_.ok()) co_return failure_;
  if (!ended_) connection_->watchdog().SetDeadline(deadline);
  if (const auto length = parser_->content_length(); length && !ended_)
    body.reserve(std::min<size_t>({*length, max_bytes, 1 << 20}));
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
    boost::system::error_code ec;
    parser_->put_eof(ec);
    if (ec)
      co_return Error(Code::kUnavailable, "{}: closed the connection in the middle of its answer",
                      connection_->origin().ToString());
    EndMessage(false);
    co_return Status::Ok();
  }
}

Status PooledStream::TakeBuffered(std::string* out) {
  ReadBuffer& buffer = connection_->buffer();
  parser_->set_body(out);
  while (!buffer.empty() && !parser_->is_done()) {
    boost::system::error_code ec;
    buffer.Consume(parser_->put(asio::buffer(buffer.data().data(), buffer.size()), ec));
    if (ec == boost::beast::http::error::need_more) {
      if (buffer.size() < kMaxChunkHeadBytes) break;
      return Corrupt("chunk header or trailer too large");
    }
    if (ec) return Corrupt(ec.message());
  }
  if (parser_->is_done()) EndMessage(parser_->keep_alive());
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
