// GGUF files: metadata and tensor table over a mapped file. Hostile files are normal input: every
// count, length and offset is checked before use and a refusal names byte offset and reason.
// Memory held is bounded by a small multiple of the file's size, whatever the file claims.
//
// Format: specs/engine.md section 3. Versions 2 and 3, little-endian. Split files
// (`-00001-of-0000N.gguf`) open as one when all parts lie beside each other. Immutable after
// creation and safe to use from any thread; copies share the mapping.
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

// An array as it lies in the file, already checked: `bytes` holds exactly `count` well-formed
// elements of `element_type` (GGUF value type id, 9: nested arrays). Decoded on demand, so that
// a tokenizer's 262144 strings cost nothing until somebody asks for them.
struct GgufArray {
  uint32_t element_type = 0;
  uint64_t count = 0;
  std::span<const std::byte> bytes;
};
// Integers of any width become int64/uint64, floats double.
using GgufValue = std::variant<uint64_t, int64_t, double, bool, std::string, GgufArray>;

struct GgufTensor {
  std::string name;
  uint32_t type = 0;           // GGUF type id
  std::vector<uint64_t> dims;  // dims[0] is contiguous; 1 to 4 of them, none 0
  uint32_t part = 0;           // which split file, from 0
  uint64_t offset = 0;         // from the start of that file
  uint64_t bytes = 0;
};

class GgufFile {
 public:
  // `path` of a split model may be any of its parts. kNotFound names a missing part.
  static Result<GgufFile> Open(const std::string& path);
  // Parses bytes that the caller keeps alive (tests, fuzzing); one part of a split stands alone.
  static Result<GgufFile> Parse(std::span<const std::byte> bytes);

  const std::map<std::string, GgufValue, std::less<>>& metadata() const { return metadata_; }
  const std::map<std::string, GgufTensor, std::less<>>& tensors() const { return tensors_; }
  uint32_t version() const { return version_; }

  // Typed access; kNotFound / kInvalidArgument name the key and the type found.
  Result<std::string> GetString(std::string_view key) const;
  Result<uint64_t> GetUint(std::string_view key) const;
  Result<double> GetDouble(std::string_view key) const;
  Result<bool> GetBool(std::string_view key) const;
  Result<std::vector<std::string>> GetStrings(std::string_view key) const;
  Result<std::vector<int64_t>> GetInts(std::string_view key) const;
  Result<std::vector<double>> GetDoubles(std::string_view key) const;
  bool Has(std::string_view key) const { return metadata_.find(key) != metadata_.end(); }
  // The array under `key`, or nullptr when it is absent or no array.
  const GgufArray* FindArray(std::string_view key) const;

  // A view into the file: rows = product of dims[1..], cols = dims[0]. kUnsupported names the type.
  Result<kernels::StoredTensor> Tensor(std::string_view name) const;

 private:
  Status OpenParts(const std::string& path, uint64_t count);

  std::vector<std::shared_ptr<MappedFile>> files_;
  std::vector<std::span<const std::byte>> parts_;
  std::map<std::string, GgufValue, std::less<>> metadata_;
  std::map<std::string, GgufTensor, std::less<>> tensors_;
  uint32_t version_ = 0;
};

// Name and block shape of a GGUF tensor type id; nullptr for ids that no current file may use.
struct GgufTypeInfo {
  uint32_t id;
  std::string_view name;  // "Q4_K"
  uint32_t block_elements;
  uint32_t block_bytes;
};
const GgufTypeInfo* FindGgufType(uint32_t id);

// Which architectures and what they need: specs/engine.md 3.3. kUnsupported names an architecture
// or feature that this build cannot run; kInvalidArgument names a missing or impossible key.
Result<ModelConfig> ConfigFromGguf(const GgufFile& file);

}  // namespace baton::model
