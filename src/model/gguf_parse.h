// The parser behind GgufFile: one file's bytes to metadata and tensor table. Internal to model/.
#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>

#include "common/status.h"
#include "model/gguf.h"

namespace baton::model {

struct GgufPart {
  uint32_t version = 0;
  std::map<std::string, GgufValue, std::less<>> metadata;
  std::map<std::string, GgufTensor, std::less<>> tensors;
};

// kDataCorrupt / kUnsupported with "byte N: reason". Array values borrow `bytes`.
Result<GgufPart> ParseGguf(std::span<const std::byte> bytes);

// Reads values one after the other. The first read that does not fit fails it for good and sets
// error(), which names what was being read and where.
class GgufCursor {
 public:
  explicit GgufCursor(std::span<const std::byte> bytes) : bytes_(bytes) {}

  template <typename T>
  bool Get(T* out, std::string_view what);
  // u64 length and that many bytes, borrowed from the file.
  bool GetString(std::string_view* out, std::string_view what);
  bool Skip(uint64_t count, std::string_view what);
  // A count of things of at least `least_bytes` each that are still to come.
  bool GetCount(uint64_t* out, uint64_t least_bytes, std::string_view what);

  // Sets error() to "byte N: reason" with N = `at`; returns false.
  bool Fail(uint64_t at, Code code, const std::string& reason);
  bool Fail(const std::string& reason) { return Fail(at_, Code::kDataCorrupt, reason); }

  uint64_t at() const { return at_; }
  uint64_t left() const { return bytes_.size() - at_; }
  std::span<const std::byte> bytes() const { return bytes_; }
  const Status& error() const { return error_; }

 private:
  std::span<const std::byte> bytes_;
  uint64_t at_ = 0;
  Status error_;
};

// GGUF value type ids.
enum : uint32_t {
  kGgufU8,
  kGgufI8,
  kGgufU16,
  kGgufI16,
  kGgufU32,
  kGgufI32,
  kGgufF32,
  kGgufBool,
  kGgufString,
  kGgufArray,
  kGgufU64,
  kGgufI64,
  kGgufF64,
};
// "u32", "string", "array"; "unknown" for others.
std::string_view GgufValueTypeName(uint32_t type);
// Bytes of one scalar; 0 for strings, arrays and unknown types.
uint32_t GgufScalarBytes(uint32_t type);
// Reads one scalar or string of `type`.
bool ReadGgufScalar(GgufCursor& cursor, uint32_t type, GgufValue* out);

}  // namespace baton::model
