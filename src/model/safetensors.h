// Safetensors: one file, or a sharded set named by model.safetensors.index.json. Mapped, checked:
// u64 header length, JSON header {name: {dtype, shape, data_offsets}}, data. As the format's own
// library does, a header over 100 MB, overlapping tensors and bytes that no tensor covers are
// refused. Format: the README of huggingface/safetensors.
//
// Immutable after creation and safe to use from any thread; copies share the mappings.
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
  // A .safetensors file, an index .json, or a folder that holds either. kNotFound names a missing
  // shard, kDataCorrupt the byte (header) or tensor that is wrong.
  static Result<SafetensorsFiles> Open(const std::string& path);
  // Parses one file's bytes that the caller keeps alive.
  static Result<SafetensorsFiles> Parse(std::span<const std::byte> bytes);

  const std::map<std::string, SafeTensor, std::less<>>& tensors() const { return tensors_; }
  // 1-D: rows 1; 2-D as is. F8_E4M3 weights bring `<name>_scale_inv`. kUnsupported names the dtype.
  Result<kernels::StoredTensor> Tensor(std::string_view name) const;

 private:
  static Result<SafetensorsFiles> OpenFile(const std::string& path);
  static Result<SafetensorsFiles> OpenIndex(const std::string& path);
  Status AttachBlockScales(std::string_view name, kernels::StoredTensor* weight) const;

  std::vector<std::shared_ptr<MappedFile>> files_;
  std::map<std::string, SafeTensor, std::less<>> tensors_;
};

// The tensors of one file's bytes (borrowed). Each message begins with "byte N" or the tensor.
Result<std::map<std::string, SafeTensor, std::less<>>> ParseSafetensors(
    std::span<const std::byte> bytes);

// model.safetensors.index.json: tensor name to file name. File names must be plain names of the
// same folder: anything with a slash or a leading dot is refused.
Result<std::map<std::string, std::string>> ParseSafetensorsIndex(std::string_view json);

}  // namespace baton::model
