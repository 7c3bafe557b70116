// For tests: writers of small GGUF and safetensors files in memory. They write what they are told,
// right or wrong, so that hostile files are one changed field away from good ones. Not part of
// the library.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/bytes.h"

namespace baton::model {

inline std::span<const std::byte> AsBytes(const std::string& s) {
  return std::as_bytes(std::span(s.data(), s.size()));
}

// Little-endian bytes of numbers, one after the other.
template <typename... T>
std::string Raw(T... values) {
  ByteWriter out;
  (out.Put(values), ...);
  return std::move(out).bytes();
}
inline std::string RawString(std::string_view s) {
  return Raw(uint64_t{s.size()}) + std::string(s);
}

class GgufWriter {
 public:
  uint32_t magic = 0x46554747, version = 3;
  std::optional<uint64_t> tensor_count, entry_count;  // what the header claims; default: the truth
  uint64_t alignment = 32;                            // used for padding; writes no key
  std::string data;                                   // after the padding

  // `value` is the encoded value after the type id.
  GgufWriter& Entry(std::string_view key, uint32_t type, const std::string& value) {
    entries_ += RawString(key) + Raw(type) + value;
    ++entry_total_;
    return *this;
  }
  GgufWriter& U32(std::string_view key, uint32_t v) { return Entry(key, 4, Raw(v)); }
  GgufWriter& F32(std::string_view key, float v) { return Entry(key, 6, Raw(v)); }
  GgufWriter& String(std::string_view key, std::string_view v) {
    return Entry(key, 8, RawString(v));
  }
  GgufWriter& Strings(std::string_view key, const std::vector<std::string>& values) {
    std::string out = Raw(uint32_t{8}, uint64_t{values.size()});
    for (const std::string& v : values) out += RawString(v);
    return Entry(key, 9, out);
  }
  GgufWriter& TensorInfo(std::string_view name, const std::vector<uint64_t>& dims, uint32_t type,
                         uint64_t offset) {
    infos_ += RawString(name) + Raw(static_cast<uint32_t>(dims.size()));
    for (const uint64_t d : dims) infos_ += Raw(d);
    infos_ += Raw(type, offset);
    ++tensor_total_;
    return *this;
  }
  // A tensor with its data, placed after the last one.
  GgufWriter& Tensor(std::string_view name, const std::vector<uint64_t>& dims, uint32_t type,
                     std::string_view bytes) {
    data.resize((data.size() + alignment - 1) / alignment * alignment);
    TensorInfo(name, dims, type, data.size());
    data += bytes;
    return *this;
  }
  std::string Build() const {
    std::string out = Raw(magic, version, tensor_count.value_or(tensor_total_),
                          entry_count.value_or(entry_total_)) +
                      entries_ + infos_;
    if (!data.empty()) out.resize((out.size() + alignment - 1) / alignment * alignment);
    return out + data;
  }

 private:
  std::string entries_, infos_;
  uint64_t entry_total_ = 0, tensor_total_ = 0;
};

// A safetensors file from a header as text and its data.
inline std::string SafetensorsBytes(std::string_view header, std::string_view data,
                                    std::optional<uint64_t> header_bytes = {}) {
  return Raw(header_bytes.value_or(header.size())) + std::string(header) + std::string(data);
}

// A folder of its own for a test, removed at the end.
class TempFolder {
 public:
  TempFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "baton_model_XXXXXX").string();
    EXPECT_NE(mkdtemp(pattern.data()), nullptr);
    path_ = pattern;
  }
  ~TempFolder() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  // Writes path_/name, making folders on the way; returns the whole path.
  std::string Write(const std::string& name, std::string_view text) const {
    const auto file = std::filesystem::path(path_) / name;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary) << text;
    return file.string();
  }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace baton::model
