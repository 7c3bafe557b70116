#include "http/connection.h"

#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>

#include "common/log.h"
#include "http/head_parser.h"

namespace baton::http {

namespace {

// A body is given room as it arrives, so that a large Content-Length alone costs no memory: a first
// piece, a larger one once something came, then as much again as is there.
constexpr size_t kFirstBodyBytes = 64 << 10;
constexpr size_t kNextBodyBytes = 128 << 10;
// Up to here the whole room is reserved at once: untouched pages cost nothing, growing would copy.
constexpr size_t kReservedBodyBytes = 1 << 20;
// How long, after the last word, a client may go on sending before the socket closes. Closing at
// once would reset the connection and could take the answer away from the client.
constexpr auto kLingerTime = std::chrono::seconds(2);

std::string PeerName(const TcpSocket& socket) {
  boost::system::error_code ec;
  const auto endpoint = socket.remote_endpoint(ec);
  if (ec) return "unknown";
  const std::string address = endpoint.address().to_string(ec);
  return endpoint.address().is_v6() ? fmt::format("[{}]:{}", address, endpoint.port())
                                    : fmt::format("{}:{}", address, endpoint.port());
}

int StatusOfParseError(const boost::system::error_code& ec) {
  return ec == boost::beast::http::error::bad_version ? 505 : 400;
}

}  // namespace

Connection::Connection(std::shared_ptr<ServerCore> core, TcpSocket socket)
    : core_(std::move(core)),
      transport_(std::move(socket)),
      reply_(transport_, core_->options().write_timeout),
      body_share_(core_->bodies()),
      peer_(PeerName(transport_.socket())) {}

Connection::~Connection() {
  CloseRequest();
  core_->Unregister(this);
}

void Connection::Start() {
  transport_.SetOwner(weak_from_this(), [this](Transport::Wait what) { OnDeadline(what); });
  if (core_->draining()) return Close();
  if (core_->tls()) BeginTls();
  else Advance();
}

// A client that speaks TLS gets a plain 503 here, which its library calls an error: a handshake is
// what a server with too many connections cannot afford.
void Connection::Refuse() {
  transport_.SetOwner(weak_from_this(), [this](Transport::Wait what) { OnDeadline(what); });
  Reject(503, "too many connections");
}

template <typename Next>
void Connection::Await(TcpSocket::wait_type what, Next next) {
  reading_ = true;
  transport_.socket().async_wait(
      what, [self = shared_from_this(), next = std::move(next)](const boost::system::error_code& ec) {
        self->reading_ = false;
        if (self->state_ == State::kClosed) return;
        // A closed descriptor's number may be another socket's by now.
        if (ec || !self->transport_.open()) return self->OnReadEnd();
        next(*self);
      });
}

void Connection::BeginTls() {
  state_ = State::kHandshake;
  transport_.SetDeadline(Now() + core_->options().tls.handshake_timeout, Transport::Wait::kHandshake);
  Await(TcpSocket::wait_read, [](Connection& self) {
    char first = 0;
    const ssize_t n = ::recv(self.transport_.socket().native_handle(), &first, 1, MSG_PEEK | MSG_DONTWAIT);
    if (n == 1 && IsTokenByte(first))
      return self.Reject(400, "plain HTTP was sent to a TLS port: use https://");
    self.transport_.SetTls(self.core_->tls()->Accept(self.transport_.socket().native_handle()));
    self.AdvanceTls();
  });
}

void Connection::AdvanceTls() {
  switch (transport_.tls()->Handshake()) {
    case TlsSession::Step::kDone:
      state_ = State::kHead;
      return Advance();
    case TlsSession::Step::kWantRead:
      return Await(TcpSocket::wait_read, [](Connection& self) { self.AdvanceTls(); });
    case TlsSession::Step::kWantWrite:
      return Await(TcpSocket::wait_write, [](Connection& self) { self.AdvanceTls(); });
    default: return RefuseTls();
  }
}

// The alert that says why is on its way. Closing with unread bytes would reset the connection and
// could take the alert away from the client.
void Connection::RefuseTls() {
  log::debug("http: TLS handshake with {} failed: {}", peer_, transport_.tls()->problem());
  transport_.SetTls(nullptr);
  Linger();
}

void Connection::Drain() {
  reply_.ForbidKeepAlive();
  if (state_ == State::kHead && buffer_.empty()) Close();
}

void Connection::Abort() {
  if (state_ == State::kClosed) return;
  transport_.Close();
  if (state_ == State::kHandling) {
    reply_.NotifyDisconnected();
  } else {
    Close();
  }
}

std::span<char> Connection::ReadRoom() {
  if (state_ == State::kBody && framing_.length) {  // MakeBodyRoom has been there
    reading_body_ = true;
    return std::span(request_.body).subspan(body_received_);
  }
  reading_body_ = false;
  // Only a head has to be held whole.
  const size_t most = state_ == State::kHead ? core_->options().max_header_bytes : 0;
  return buffer_.Prepare(std::max(most, ReadBuffer::kInitialBytes));
}

void Connection::Read() {
  if (reading_ || peer_closed_ || !transport_.open()) return;
  const std::span<char> room = ReadRoom();
  if (room.empty()) return;
  // What comes after our last word is thrown away, so it needs no deciphering.
  if (transport_.tls() && state_ != State::kLinger) [[unlikely]] return ReadTls(room);
  reading_ = true;
  transport_.socket().async_read_some(
      asio::buffer(room.data(), room.size()),
      [self = shared_from_this()](const boost::system::error_code& ec, size_t bytes) {
        self->OnRead(ec, bytes);
      });
}

// Never deciphers at once, since what comes of it may call for the next read: a large body would
// pile up calls.
void Connection::ReadTls(std::span<char> room) {
  if (!transport_.tls()->Pending())
    return Await(TcpSocket::wait_read, [room](Connection& self) { self.TakeTls(room); });
  reading_ = true;
  asio::post(transport_.executor(), [self = shared_from_this(), room] {
    self->reading_ = false;
    if (self->state_ == State::kClosed) return;
    if (!self->transport_.open()) return self->OnReadEnd();
    self->TakeTls(room);
  });
}

void Connection::TakeTls(std::span<char> room) {
  if (state_ == State::kLinger) return Read();
  size_t bytes = 0;
  switch (transport_.tls()->Read(room, &bytes)) {
    case TlsSession::Step::kDone: return OnRead({}, bytes);
    case TlsSession::Step::kWantRead:
      return Await(TcpSocket::wait_read, [room](Connection& self) { self.TakeTls(room); });
    default: return OnReadEnd();
  }
}

void Connection::OnRead(const boost::system::error_code& ec, size_t bytes) {
  reading_ = false;
  if (state_ == State::kClosed) return;
  if (ec) return OnReadEnd();
  if (state_ == State::kLinger) {
    DropRequest();
    buffer_.Consume(buffer_.size());
    return Read();
  }
  if (reading_body_) {
    body_received_ += bytes;
  } else {
    buffer_.Commit(bytes);
  }
  if (state_ == State::kHandling) {
    Read();
  } else {
    Advance();
  }
}

void Connection::OnReadEnd() {
  peer_closed_ = true;
  if (state_ == State::kHandling) {
    reply_.ForbidKeepAlive();
    reply_.NotifyDisconnected();
  } else {
    Close();
  }
}

void Connection::OnDeadline(Transport::Wait what) {
  switch (what) {
    case Transport::Wait::kHead: return Reject(408, "the request header took too long");
    case Transport::Wait::kBody: return OnBodyWindow();
    case Transport::Wait::kIdle: transport_.ShutdownSend(); return Close();
    default: return Close();
  }
}

void Connection::Advance() {
  while (true) {
    const bool further = state_ == State::kHead   ? AdvanceHead()
                         : state_ == State::kBody ? AdvanceBody()
                                                  : false;
    if (!further) break;
  }
  Read();
}

bool Connection::AdvanceHead() {
  const ServerOptions& options = core_->options();
  while (scanned_ == 0 && buffer_.data().starts_with("\r\n")) buffer_.Consume(2);
  const std::string_view bytes = buffer_.data();
  if (bytes.empty() || bytes == "\r") {  // the other half of a blank line may follow
    if (core_->draining()) {
      Close();
    } else {
      transport_.SetDeadline(Now() + options.idle_timeout, Transport::Wait::kIdle);
    }
    return false;
  }
  const bool first_bytes = !request_open_;
  OpenRequest();
  if (scanned_ == 0 && !IsTokenByte(bytes[0]) && bytes[0] != '\r') {
    Reject(400, "this is not an HTTP/1.1 request");
    return false;
  }
  size_t end = 0;
  const HeadScan scan = FindHeadEnd(bytes, scanned_, end);
  if (scan == HeadScan::kBareLineFeed) {
    Reject(400, "header line ends in a bare line feed");
    return false;
  }
  if ((scan == HeadScan::kComplete ? end : bytes.size() + 1) > options.max_header_bytes) {
    Reject(431, fmt::format("the request header is larger than {} bytes", options.max_header_bytes));
    return false;
  }
  if (scan == HeadScan::kNeedMore) {
    if (first_bytes)
      transport_.SetDeadline(Now() + options.header_timeout, Transport::Wait::kHead);
    return false;
  }
  scanned_ = 0;
  return ParseHead(bytes.substr(0, end)) && StartBody();
}

bool Connection::ParseHead(std::string_view head) {
  if (const char* wrong = CheckHeadBytes(head)) {
    Reject(400, wrong);
    return false;
  }
  request_ = Request();
  RequestHeadParser parser(&request_.headers);
  if (const auto ec = parser.Parse(head)) {
    Reject(StatusOfParseError(ec), fmt::format("malformed request header: {}", ec.message()));
    return false;
  }
  buffer_.Consume(head.size());
  request_.method = parser.take_method();
  request_.target = parser.take_target();
  request_.peer = peer_;
  const int version = parser.version();
  http10_ = version < 11;
  wants_keep_alive_ = !http10_ && parser.keep_alive();
  framing_ = Framing();
  if (const char* wrong = CheckFraming(request_.headers, version, framing_)) {
    Reject(400, wrong);
    return false;
  }
  if (auto rejection = CheckRequest(request_, version)) {
    Reject(rejection->status, rejection->message);
    return false;
  }
  if (!parser.known_method()) {
    Reject(501, fmt::format("method {} is not implemented", request_.method));
    return false;
  }
  if (const char* wrong = ParseTarget(request_)) {
    Reject(400, wrong);
    return false;
  }
  return true;
}

bool Connection::StartBody() {
  const ServerOptions& options = core_->options();
  reply_.Begin({.keep_alive = wants_keep_alive_ && !core_->draining(),
                .head_only = request_.method == "HEAD",
                .http10 = http10_,
                .timed = core_->observer() != nullptr});
  refusal_ = core_->Screen(request_, reply_);
  const bool empty = !framing_.chunked && framing_.length.value_or(0) == 0;
  if (empty) {
    Dispatch();
    return false;
  }
  const bool all_here = framing_.length && *framing_.length <= buffer_.size();
  // A body that nobody will look at costs neither memory nor time; one that is here already costs
  // the client no new connection.
  if (!all_here && (refusal_ || !core_->HasRoute(request_))) {
    reply_.ForbidKeepAlive();
    Dispatch();
    return false;
  }
  if (framing_.length && *framing_.length > options.max_body_bytes) {
    Reject(413, fmt::format("the request body is larger than {} bytes", options.max_body_bytes));
    return false;
  }
  if (!core_->bodies().HasRoom(framing_.length.value_or(1))) {
    RejectForRoom();
    return false;
  }
  body_received_ = body_seen_ = 0;
  if (framing_.length) request_.body.reserve(std::min<size_t>(*framing_.length, kReservedBodyBytes));
  if (framing_.chunked) decoder_.emplace(options.max_body_bytes);
  state_ = State::kBody;
  if (buffer_.empty() && !http10_ && request_.headers.Has("Expect"))
    transport_.WriteBestEffort("HTTP/1.1 100 Continue\r\n\r\n");
  if (!all_here) {
    const TimePoint now = Now();
    body_deadline_ = now + options.max_body_time;
    transport_.SetDeadline(std::min(now + options.body_window, body_deadline_), Transport::Wait::kBody);
  }
  return true;
}

void Connection::RejectForRoom() {
  Reject(503, fmt::format("the bodies of other requests fill the {} bytes that bodies may take here: try again soon",
                          core_->bodies().limit()));
}

// Counts the body as `bytes` large; false when that is too much and the client was told so.
bool Connection::HoldBody(size_t bytes) {
  if (body_share_.GrowTo(bytes)) return true;
  RejectForRoom();
  return false;
}

void Connection::MakeBodyRoom() {
  std::string& body = request_.body;
  if (body_received_ < body.size()) return;
  const size_t next = body_received_ == 0 ? kFirstBodyBytes : std::max(kNextBodyBytes, body_received_);
  const size_t size = body_received_ + std::min<size_t>(*framing_.length - body_received_, next);
  if (HoldBody(size)) body.resize(size);
}

void Connection::OnBodyWindow() {
  const ServerOptions& options = core_->options();
  const TimePoint now = Now();
  if (now >= body_deadline_) return Reject(408, "the request body took too long");
  const size_t received = framing_.chunked ? request_.body.size() : body_received_;
  if (received - body_seen_ < options.min_body_bytes)
    return Reject(408, fmt::format("the request body came too slowly: less than {} bytes in {} ms", options.min_body_bytes,
                                   options.body_window.count()));
  body_seen_ = received;
  transport_.SetDeadline(std::min(now + options.body_window, body_deadline_), Transport::Wait::kBody);
}

bool Connection::AdvanceBody() {
  return framing_.chunked ? AdvanceChunkedBody() : AdvanceFixedBody();
}

bool Connection::AdvanceFixedBody() {
  std::string& body = request_.body;
  if (!buffer_.empty()) {
    const size_t take = std::min<size_t>(*framing_.length - body_received_, buffer_.size());
    if (!HoldBody(body_received_ + take)) return false;
    body.resize(body_received_);  // there may be room: a read begun before this body came to the buffer
    body.append(buffer_.data().substr(0, take));
    buffer_.Consume(take);
    body_received_ += take;
  }
  if (body_received_ < *framing_.length) {
    MakeBodyRoom();
  } else {
    Dispatch();
  }
  return false;
}

bool Connection::AdvanceChunkedBody() {
  buffer_.Consume(decoder_->Decode(buffer_.data(), &request_.body));
  if (decoder_->body_too_large()) {
    Reject(413, fmt::format("the request body is larger than {} bytes",
                            core_->options().max_body_bytes));
  } else if (decoder_->error()) {
    Reject(400, fmt::format("malformed chunked body: {}", decoder_->error()));
  } else if (HoldBody(request_.body.size()) && decoder_->done()) {
    Dispatch();
  }
  return false;
}

void Connection::Dispatch() {
  state_ = State::kHandling;
  transport_.ClearDeadline();
  reply_.NoteReceived();
  decoder_.reset();
  Read();
  asio::co_spawn(transport_.executor(), Serve(),
                 [self = shared_from_this()](std::exception_ptr) { self->Finish(); });
}

asio::awaitable<void> Connection::Serve() {
  const auto self = shared_from_this();
  try {
    if (refusal_) {
      Response refusal = std::move(*refusal_);
      (void)co_await reply_.Send(std::move(refusal));
    } else {
      co_await core_->Handle(request_, reply_);
    }
  } catch (const std::exception& e) {
    log::error("http: handler of {} {} threw: {}", request_.method, request_.path, e.what());
  }
  if (!reply_.started() && !reply_.disconnected()) {
    reply_.ForbidKeepAlive();
    (void)co_await reply_.Send(core_->MakeError(request_, 500, "the handler gave no answer"));
  }
}

void Connection::Finish() {
  if (core_->observer()) core_->observer()(request_, reply_.outcome());
  reply_.End();
  CloseRequest();
  if (state_ == State::kClosed) return;
  if (!reply_.complete()) reply_.AbortStream();
  if (!transport_.open() || peer_closed_) return Close();
  if (!reply_.keep_alive()) return Linger();
  DropRequest();
  if (!reading_) buffer_.Shrink();
  state_ = State::kHead;
  Advance();
}

void Connection::OpenRequest() {
  if (request_open_) return;
  request_open_ = true;
  core_->RequestOpened();
}

void Connection::CloseRequest() {
  if (!request_open_) return;
  request_open_ = false;
  core_->RequestClosed();
}

// The request's memory, and its place in the budget.
void Connection::DropRequest() {
  request_ = Request();
  refusal_.reset();
  body_share_.Release();
}

void Connection::Reject(int status, std::string_view message) {
  const Response response = core_->MakeError(request_, status, message);
  std::string bytes;
  AppendResponseHead(bytes, status, response.headers,
                     {BodyFraming::kLength, response.body.size(), true, reply_.more()});
  bytes += response.body;
  transport_.WriteBestEffort(bytes);
  if (core_->observer())
    core_->observer()(request_, {.status = status, .body_bytes = response.body.size(), .received = Now(), .complete = true, .note = reply_.note()});
  CloseRequest();
  Linger();
}

void Connection::Linger() {
  state_ = State::kLinger;
  // What an outstanding read writes to must stay: at worst it is the body of the refused request.
  if (!reading_) {
    DropRequest();
    buffer_.Consume(buffer_.size());
  }
  transport_.ShutdownSend();
  transport_.SetDeadline(Now() + kLingerTime, Transport::Wait::kLinger);
  Read();
}

void Connection::Close() {
  if (state_ == State::kClosed) return;
  state_ = State::kClosed;
  CloseRequest();
  transport_.Close();
  core_->Unregister(this);
}

}  // namespace baton::http
