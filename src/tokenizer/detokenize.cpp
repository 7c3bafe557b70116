// Bytes of tokens back to text. Invalid UTF-8 becomes U+FFFD, one per maximal subpart of an
// ill-formed sequence (Unicode 15, section 3.9, "U+FFFD Substitution of Maximal Subparts"), which
// is also what Python's errors="replace" and Rust's from_utf8_lossy do.
#include <cstring>

#include "tokenizer/tokenizer.h"

namespace baton::tokenizer {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

struct Sequence {
  size_t bytes;   // consumed when it ends here
  enum { kValid, kInvalid, kUnfinished } state;
};

// The sequence at the start of `in`: a character, an ill-formed maximal subpart, or a prefix of a
// character that ends with the input.
Sequence Classify(std::string_view in) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(in[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return {1, Sequence::kValid};
  if (lead < 0xC2 || lead > 0xF4) return {1, Sequence::kInvalid};
  const size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // Table 3-7 of the standard: only the second byte has a range that depends on the lead.
  unsigned char low = 0x80, high = 0xBF;
  if (lead == 0xE0) low = 0xA0;
  if (lead == 0xED) high = 0x9F;
  if (lead == 0xF0) low = 0x90;
  if (lead == 0xF4) high = 0x8F;
  for (size_t i = 1; i < length; ++i) {
    if (i == in.size()) return {i, Sequence::kUnfinished};
    if (byte(i) < low || byte(i) > high) return {i, Sequence::kInvalid};
    low = 0x80;
    high = 0xBF;
  }
  return {length, Sequence::kValid};
}

// Appends `in` to `out`; returns how many bytes at its end are an unfinished character (0..3).
size_t AppendDecoded(std::string_view in, std::string& out) {
  size_t at = 0, copied = 0;
  while (at < in.size()) {
    const Sequence next = Classify(in.substr(at));
    if (next.state == Sequence::kValid) {
      at += next.bytes;
      continue;
    }
    out.append(in, copied, at - copied);
    if (next.state == Sequence::kUnfinished) return next.bytes;
    out += kReplacement;
    at += next.bytes;
    copied = at;
  }
  out.append(in, copied);
  return 0;
}

}  // namespace

std::string Tokenizer::Decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
  std::string bytes;
  for (const int32_t id : ids) {
    if (skip_special_tokens && IsSpecial(id)) continue;
    bytes += TokenBytes(id);
  }
  std::string out;
  out.reserve(bytes.size());
  if (AppendDecoded(bytes, out) > 0) out += kReplacement;
  return out;
}

void IncrementalDetokenizer::Push(int32_t id, std::string& out) {
  if (skip_special_ && tokenizer_->IsSpecial(id)) return;
  const std::string_view bytes = tokenizer_->TokenBytes(id);
  if (pending_.empty()) {
    pending_.assign(bytes.substr(bytes.size() - AppendDecoded(bytes, out)));
    return;
  }
  pending_ += bytes;
  const size_t unfinished = AppendDecoded(pending_, out);
  pending_.erase(0, pending_.size() - unfinished);
}

void IncrementalDetokenizer::Flush(std::string& out) {
  if (!pending_.empty()) out += kReplacement;
  pending_.clear();
}

}  // namespace baton::tokenizer
