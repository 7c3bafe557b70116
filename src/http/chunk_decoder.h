// Takes the chunked coding off a body (RFC 9112 section 7.1), a byte stream in and the data out.
//
// Strict where leniency lets two readers disagree: sizes are hex digits followed by CRLF or an
// extension, every line ends in CRLF, trailer fields are checked as header fields are and must not
// be about framing. Extensions and trailers are dropped; each is bounded. Holds no data of its
// own, so pieces may be cut anywhere. Not Beast's decoder: that of 1.81 wants whole lines and
// asserts when the last chunk of an empty body comes in small pieces. Not thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace baton::http {

class ChunkDecoder {
 public:
  explicit ChunkDecoder(uint64_t max_body_bytes) : body_left_(max_body_bytes) {}

  // Appends the data in `bytes` to *out. Returns how much was taken: all of it, unless the body
  // ended or is wrong.
  size_t Decode(std::string_view bytes, std::string* out);

  bool done() const { return state_ == State::kDone; }
  // What is wrong with the coding, or nullptr.
  const char* error() const { return error_; }
  // The error is that a size goes past max_body_bytes (known before the data comes).
  bool body_too_large() const { return body_too_large_; }

 private:
  enum class State {
    kSizeFirst,  // at least one digit must come
    kSize,
    kExtension,
    kQuoted,     // a quoted string in an extension; a CR in it is an error
    kEscaped,
    kSizeLf,
    kData,
    kDataCr,
    kDataLf,
    kLine,  // a trailer field, or the empty line that ends the body
    kLineLf,
    kDone,
    kFailed,
  };
  static constexpr size_t kMaxExtraBytes = 16 << 10;

  void TakeByte(char c);
  void TakeExtensionByte(char c);
  void EndSize();
  void EndLine();
  void Fail(const char* error);

  State state_ = State::kSizeFirst;
  uint64_t size_ = 0;        // of the current chunk, what is left of it
  uint64_t body_left_;
  size_t extra_bytes_ = 0;   // of extensions and trailers so far, less what data has paid for
  std::string line_;         // the trailer field under way
  const char* error_ = nullptr;
  bool body_too_large_ = false;
};

}  // namespace baton::http
