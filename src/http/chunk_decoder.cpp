#include "http/chunk_decoder.h"

#include "http/request_check.h"
#include "http/response_head.h"

namespace baton::http {

namespace {

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  c = static_cast<char>(c | 0x20);
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

}  // namespace

size_t ChunkDecoder::Decode(std::string_view bytes, std::string* out) {
  size_t at = 0;
  while (at < bytes.size() && state_ != State::kDone && state_ != State::kFailed) {
    if (state_ != State::kData) {
      TakeByte(bytes[at++]);
      continue;
    }
    const size_t take = std::min<uint64_t>(size_, bytes.size() - at);
    out->append(bytes.substr(at, take));
    at += take;
    size_ -= take;
    if (size_ == 0) state_ = State::kDataCr;
  }
  return at;
}

void ChunkDecoder::TakeByte(char c) {
  switch (state_) {
    case State::kSizeFirst:
    case State::kSize: {
      const int digit = HexDigit(c);
      if (digit >= 0) {
        if (size_ >> 60) return Fail("chunk size over 64 bits");
        size_ = size_ << 4 | static_cast<uint64_t>(digit);
        // Leading zeros would otherwise be an endless line.
        if (++extra_bytes_ > kMaxExtraBytes) return Fail("chunk size line too long");
        state_ = State::kSize;
      } else if (state_ == State::kSizeFirst) {
        Fail("chunk size is not a number");
      } else if (c == '\r') {
        state_ = State::kSizeLf;
      } else if (c == ';') {
        state_ = State::kExtension;
      } else {
        Fail("bad character after a chunk size");
      }
      return;
    }
    case State::kExtension:
    case State::kQuoted:
    case State::kEscaped: return TakeExtensionByte(c);
    case State::kSizeLf: return c == '\n' ? EndSize() : Fail("chunk size line without CRLF");
    case State::kDataCr:
      return c == '\r' ? void(state_ = State::kDataLf) : Fail("chunk longer than its size");
    case State::kDataLf:
      return c == '\n' ? void(state_ = State::kSizeFirst) : Fail("chunk without its CRLF");
    case State::kLine:
      if (c == '\r') {
        state_ = State::kLineLf;
      } else if (++extra_bytes_ > kMaxExtraBytes) {
        Fail("trailer too long");
      } else {
        line_.push_back(c);
      }
      return;
    case State::kLineLf: return c == '\n' ? EndLine() : Fail("trailer line without CRLF");
    case State::kData:
    case State::kDone:
    case State::kFailed: return;
  }
}

void ChunkDecoder::TakeExtensionByte(char c) {
  if (c == '\r' && state_ == State::kExtension) {
    state_ = State::kSizeLf;
  } else if (!IsFieldTextByte(c)) {
    Fail("control character in a chunk extension");
  } else if (++extra_bytes_ > kMaxExtraBytes) {
    Fail("chunk extensions too long");
  } else if (state_ == State::kEscaped) {
    state_ = State::kQuoted;
  } else if (c == '"') {
    state_ = state_ == State::kQuoted ? State::kExtension : State::kQuoted;
  } else if (c == '\\' && state_ == State::kQuoted) {
    state_ = State::kEscaped;
  }
}

void ChunkDecoder::EndSize() {
  if (size_ == 0) {
    state_ = State::kLine;
    return;
  }
  if (size_ > body_left_) {
    body_too_large_ = true;
    return Fail("body too large");
  }
  body_left_ -= size_;
  // One-byte chunks with long extensions cannot go on for ever; honest chunks never get there.
  extra_bytes_ -= std::min<uint64_t>(extra_bytes_, size_ + 32);
  state_ = State::kData;
}

void ChunkDecoder::EndLine() {
  if (line_.empty()) {
    state_ = State::kDone;
    return;
  }
  if (const char* wrong = CheckFieldLine(line_)) return Fail(wrong);
  if (IsFramingField(std::string_view(line_).substr(0, line_.find(':'))))
    return Fail("framing field in a trailer");
  line_.clear();
  state_ = State::kLine;
}

void ChunkDecoder::Fail(const char* error) {
  error_ = error;
  state_ = State::kFailed;
}

}  // namespace baton::http
