// Little-endian binary messages between Batons (PD control stream, transfer descriptors).
//
// ByteReader never throws and never reads past its input: the first short or oversized read makes
// it fail for good, reads then return zeros, and `Finish()` says where it failed. Check it once.
#pragma once

#include <concepts>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"

namespace baton {

class ByteWriter {
 public:
  template <typename T>
    requires std::is_arithmetic_v<T> || std::is_enum_v<T>
  void Put(T value) {
    const auto* p = reinterpret_cast<const char*>(&value);
    bytes_.append(p, sizeof value);
  }
  // u32 length, then the bytes.
  void PutString(std::string_view text) {
    Put(static_cast<uint32_t>(text.size()));
    bytes_.append(text);
  }
  // u32 count, then the elements.
  template <typename T>
    requires std::is_arithmetic_v<T>
  void PutArray(std::span<const T> values) {
    Put(static_cast<uint32_t>(values.size()));
    bytes_.append(reinterpret_cast<const char*>(values.data()), values.size_bytes());
  }
  const std::string& bytes() const& { return bytes_; }
  std::string bytes() && { return std::move(bytes_); }

 private:
  std::string bytes_;
};

class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes) : bytes_(bytes) {}

  template <typename T>
    requires std::is_arithmetic_v<T> || std::is_enum_v<T>
  T Get() {
    T value{};
    if (const char* p = Take(sizeof value)) std::memcpy(&value, p, sizeof value);
    return value;
  }
  std::string GetString(size_t max_bytes) {
    const uint32_t size = Get<uint32_t>();
    if (size > max_bytes) Fail();
    const char* p = Take(size);
    return p ? std::string(p, size) : std::string();
  }
  template <typename T>
    requires std::is_arithmetic_v<T>
  std::vector<T> GetArray(size_t max_count) {
    const uint32_t count = Get<uint32_t>();
    if (count > max_count) Fail();
    const char* p = Take(size_t{count} * sizeof(T));
    std::vector<T> out;
    if (p && count) {
      out.resize(count);
      std::memcpy(out.data(), p, out.size() * sizeof(T));
    }
    return out;
  }
  // OK when every read fit and nothing is left over.
  Status Finish() const {
    if (failed_) return Error(Code::kDataCorrupt, "message ends or breaks its bounds at byte {}", at_);
    if (at_ != bytes_.size())
      return Error(Code::kDataCorrupt, "{} bytes left over at byte {}", bytes_.size() - at_, at_);
    return Status::Ok();
  }
  bool failed() const { return failed_; }

 private:
  const char* Take(size_t n) {
    if (failed_ || n > bytes_.size() - at_) {
      failed_ = true;
      return nullptr;
    }
    const char* p = bytes_.data() + at_;
    at_ += n;
    return p;
  }
  void Fail() { failed_ = true; }

  std::string_view bytes_;
  size_t at_ = 0;
  bool failed_ = false;
};

}  // namespace baton
