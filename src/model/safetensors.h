// Safetensors: one file, or a sharded set named by model.safetensors.index.json. Mapped, checked.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/mapped_file.h"
#include "common/status.h"
#include "kernels/tensor.h"

namespace baton::model {

struct SafeTensor {
  std::string dtype;  // "BF16", "F32", "F8_E4M3" ...
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;
};

class SafetensorsFiles {
 public:
  // A .safetensors file, an index .json, or a folder that holds either.
  static Result<SafetensorsFiles> Open(const std::string& path);
  // Parses one file's bytes that the caller keeps alive.
  static Result<SafetensorsFiles> Parse(std::span<const std::byte> bytes);

  const std::map<std::string, SafeTensor, std::less<>>& tensors() const { return tensors_; }
  // 1-D: rows 1; 2-D as is. F8_E4M3 weights bring `<name>_scale_inv`. kUnsupported names the dtype.
  Result<kernels::StoredTensor> Tensor(std::string_view name) const;

 private:
  std::vector<std::shared_ptr<MappedFile>> files_;
  std::map<std::string, SafeTensor, std::less<>> tensors_;
};

}  // namespace baton::model
