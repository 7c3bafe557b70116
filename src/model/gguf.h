// GGUF files: metadata and tensor table over a mapped file. Hostile files are normal input: every
// count, length and offset is checked before use and a refusal names byte offset and reason.
// Format: specs/engine.md section 3.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "common/mapped_file.h"
#include "common/status.h"
#include "kernels/tensor.h"
#include "model/config.h"

namespace baton::model {

struct GgufArray;
// Integers of any width become int64/uint64, floats double.
using GgufValue = std::variant<uint64_t, int64_t, double, bool, std::string, std::shared_ptr<GgufArray>>;
struct GgufArray {
  std::vector<GgufValue> values;  // scalar arrays only in practice; nesting is kept
};

struct GgufTensor {
  std::string name;
  uint32_t type = 0;                // GGUF type id
  std::vector<uint64_t> dims;       // dims[0] is contiguous
  uint64_t offset = 0;              // from the start of the file
  uint64_t bytes = 0;
};

class GgufFile {
 public:
  static Result<GgufFile> Open(const std::string& path);
  // Parses bytes that the caller keeps alive (tests, fuzzing).
  static Result<GgufFile> Parse(std::span<const std::byte> bytes);

  const std::map<std::string, GgufValue, std::less<>>& metadata() const { return metadata_; }
  const std::map<std::string, GgufTensor, std::less<>>& tensors() const { return tensors_; }

  // Typed access; kNotFound / kInvalidArgument name the key and the type found.
  Result<std::string> GetString(std::string_view key) const;
  Result<uint64_t> GetUint(std::string_view key) const;
  Result<double> GetDouble(std::string_view key) const;
  Result<bool> GetBool(std::string_view key) const;
  Result<std::vector<std::string>> GetStrings(std::string_view key) const;
  Result<std::vector<int64_t>> GetInts(std::string_view key) const;
  Result<std::vector<double>> GetDoubles(std::string_view key) const;
  bool Has(std::string_view key) const { return metadata_.find(key) != metadata_.end(); }

  // A view into the file: rows = product of dims[1..], cols = dims[0]. kUnsupported names the type.
  Result<kernels::StoredTensor> Tensor(std::string_view name) const;

 private:
  std::shared_ptr<MappedFile> file_;
  std::span<const std::byte> bytes_;
  std::map<std::string, GgufValue, std::less<>> metadata_;
  std::map<std::string, GgufTensor, std::less<>> tensors_;
};

Result<ModelConfig> ConfigFromGguf(const GgufFile& file);

}  // namespace baton::model
