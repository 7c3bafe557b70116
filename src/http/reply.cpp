#include "http/reply.h"

#include <array>
#include <charconv>

#include <boost/asio/post.hpp>

namespace baton::http {

namespace {

bool HasNoBody(int status) { return status < 200 || status == 204 || status == 304; }

Status OutOfOrder(std::string_view call) {
  return Error(Code::kInternal, "{}: the answer is in another state already", call);
}

void AppendChunk(std::string& out, std::string_view data) {
  std::array<char, 18> size;
  char* end = std::to_chars(size.data(), size.data() + 16, data.size(), 16).ptr;
  *end++ = '\r';
  *end++ = '\n';
  out.append(size.data(), static_cast<size_t>(end - size.data())).append(data).append("\r\n");
}

Status Gone() { return Status(Code::kCancelled, "the client is gone"); }

}  // namespace

void Reply::Begin(const Terms& terms) {
  terms_ = terms;
  state_ = State::kNothing;
  disconnected_ = false;
  rest_.clear();
  settled_ = true;
  status_ = 0;
  body_bytes_ = 0;
  received_ = first_byte_ = {};
}

// The next request may be refused before it gets to Begin.
void Reply::End() {
  callback_ = nullptr;
  more_.clear();
  note_.clear();
}

void Reply::CountBody(size_t bytes) {
  if (terms_.timed && body_bytes_ == 0 && bytes > 0) first_byte_ = Now();
  body_bytes_ += bytes;
}

asio::awaitable<Status> Reply::Flush(SendList list) {
  Status status = co_await transport_.Write(list, write_timeout_);
  if (!status.ok()) NotifyDisconnected();
  co_return status;
}

asio::awaitable<Status> Reply::Send(Response response) {
  if (state_ != State::kNothing) co_return OutOfOrder("Send");
  if (response.headers.Lists("Connection", "close")) terms_.keep_alive = false;
  HeadOptions options{BodyFraming::kLength, response.body.size(), !terms_.keep_alive};
  if (HasNoBody(response.status)) options.framing = BodyFraming::kNone;
  options.more = more_;
  status_ = response.status;
  head_.clear();
  AppendResponseHead(head_, response.status, response.headers, options);
  SendList list;
  list.Add(head_);
  if (!terms_.head_only && options.framing == BodyFraming::kLength) {
    list.Add(response.body);
    CountBody(response.body.size());
  }
  state_ = State::kComplete;
  co_return co_await Flush(list);
}

asio::awaitable<Status> Reply::BeginStream(int status, Headers headers) {
  if (state_ != State::kNothing) co_return OutOfOrder("BeginStream");
  if (disconnected_) co_return Gone();
  if (headers.Lists("Connection", "close")) terms_.keep_alive = false;
  HeadOptions options{BodyFraming::kChunked, 0, false};
  drop_body_ = terms_.head_only || HasNoBody(status);
  if (HasNoBody(status)) {
    options.framing = BodyFraming::kNone;
  } else if (terms_.http10) {
    options.framing = BodyFraming::kUntilClose;
    terms_.keep_alive = false;
  }
  chunked_ = options.framing == BodyFraming::kChunked;
  options.close = !terms_.keep_alive;
  options.more = more_;
  status_ = status;
  head_.clear();
  AppendResponseHead(head_, status, headers, options);
  state_ = State::kStreaming;
  SendList list;
  list.Add(head_);
  co_return co_await Flush(list);
}

asio::awaitable<Status> Reply::Write(std::string_view bytes) {
  if (state_ != State::kStreaming) co_return state_ == State::kAborted ? Gone() : OutOfOrder("Write");
  if (disconnected_) co_return Gone();
  if (bytes.empty() || drop_body_) co_return Status::Ok();
  SendList list;
  std::array<char, 20> size;
  if (chunked_) {
    char* end = std::to_chars(size.data(), size.data() + 16, bytes.size(), 16).ptr;
    *end++ = '\r';
    *end++ = '\n';
    list.Add({size.data(), static_cast<size_t>(end - size.data())});
  }
  list.Add(bytes);
  CountBody(bytes.size());
  if (chunked_) list.Add("\r\n");
  co_return co_await Flush(list);
}

bool Reply::WriteNow(std::string_view bytes) {
  if (state_ != State::kStreaming || disconnected_ || !settled_) return false;
  if (bytes.empty() || drop_body_) return true;
  CountBody(bytes.size());
  // One piece of memory: cheaper for the kernel than three, and warm in the cache.
  thread_local std::string chunk;
  chunk.clear();
  if (chunked_) AppendChunk(chunk, bytes);
  else chunk.append(bytes);
  size_t taken = 0;
  settled_ = transport_.WriteNow(chunk, &taken);
  if (!settled_) rest_.assign(chunk, taken);
  return settled_;
}

asio::awaitable<Status> Reply::Settle() {
  if (state_ != State::kStreaming) co_return state_ == State::kAborted ? Gone() : OutOfOrder("Settle");
  if (disconnected_) co_return Gone();
  if (std::exchange(settled_, true)) co_return Status::Ok();
  const std::string rest = std::exchange(rest_, {});
  SendList list;
  list.Add(rest);
  co_return co_await Flush(list);
}

asio::awaitable<Status> Reply::EndStream() {
  if (state_ != State::kStreaming)
    co_return state_ == State::kAborted ? Gone() : OutOfOrder("EndStream");
  if (disconnected_) co_return Gone();
  state_ = State::kComplete;
  if (!chunked_ || drop_body_) co_return Status::Ok();
  SendList list;
  list.Add("0\r\n\r\n");
  co_return co_await Flush(list);
}

void Reply::AbortStream() {
  if (state_ == State::kComplete) return;
  // Without chunks a plain close would look like the end of the body.
  const bool ends_by_close = state_ == State::kStreaming && !chunked_;
  state_ = State::kAborted;
  if (ends_by_close) {
    transport_.Reset();
  } else {
    transport_.Close();
  }
}

void Reply::OnDisconnect(std::function<void()> callback) {
  if (disconnected_ && callback) callback();
  else callback_ = std::move(callback);
}

void Reply::NotifyDisconnected() {
  if (disconnected_) return;
  disconnected_ = true;
  if (auto callback = std::exchange(callback_, nullptr)) callback();
}

}  // namespace baton::http
