// A file mapped read-only into memory. Move-only; unmaps when destroyed.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "common/status.h"

namespace baton {

class MappedFile {
 public:
  // kNotFound when there is no such file, kInvalidArgument when it is not a regular file or empty.
  static Result<MappedFile> Open(const std::string& path);

  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }

 private:
  MappedFile(const std::byte* data, size_t size, std::string path)
      : data_(data), size_(size), path_(std::move(path)) {}

  const std::byte* data_ = nullptr;
  size_t size_ = 0;
  std::string path_;
};

}  // namespace baton
