// GgufFile: opening (one file or a split set), typed access to metadata, views of tensors. The
// parsing itself is in gguf_parse.cpp.
#include "model/gguf.h"

#include <fmt/format.h>

#include <cinttypes>
#include <limits>
#include <optional>

#include "model/gguf_parse.h"
#include "model/text.h"

namespace baton::model {
namespace {

constexpr uint64_t kMaxParts = 9999;

std::string_view KindOf(const GgufValue& value) {
  constexpr std::string_view kKinds[] = {"an unsigned integer", "an integer", "a number",
                                         "a boolean",           "a string",   "an array"};
  return kKinds[value.index()];
}

Status WrongKind(std::string_view key, const GgufValue& value, std::string_view wanted) {
  return Error(Code::kInvalidArgument, "GGUF key {} is {}, not {}", Quote(key), KindOf(value),
               wanted);
}

std::optional<uint64_t> AsUint(const GgufValue& value) {
  if (const auto* u = std::get_if<uint64_t>(&value)) return *u;
  const auto* i = std::get_if<int64_t>(&value);
  return i && *i >= 0 ? std::optional<uint64_t>(*i) : std::nullopt;
}

std::optional<int64_t> AsInt(const GgufValue& value) {
  if (const auto* i = std::get_if<int64_t>(&value)) return *i;
  const auto* u = std::get_if<uint64_t>(&value);
  return u && *u <= std::numeric_limits<int64_t>::max() ? std::optional<int64_t>(*u) : std::nullopt;
}

std::optional<double> AsDouble(const GgufValue& value) {
  if (const auto* d = std::get_if<double>(&value)) return *d;
  if (const auto* u = std::get_if<uint64_t>(&value)) return static_cast<double>(*u);
  if (const auto* i = std::get_if<int64_t>(&value)) return static_cast<double>(*i);
  return std::nullopt;
}

std::optional<std::string> AsString(GgufValue& value) {
  auto* s = std::get_if<std::string>(&value);
  return s ? std::optional<std::string>(std::move(*s)) : std::nullopt;
}

Result<const GgufValue*> Find(const std::map<std::string, GgufValue, std::less<>>& metadata,
                              std::string_view key) {
  const auto found = metadata.find(key);
  if (found == metadata.end()) return Error(Code::kNotFound, "GGUF key {} is missing", Quote(key));
  return &found->second;
}

// Decodes every element; `convert` gives nullopt for elements of the wrong kind.
template <typename T, typename Convert>
Result<std::vector<T>> DecodeArray(const GgufFile& file, std::string_view key,
                                   std::string_view wanted, Convert convert) {
  const auto value = Find(file.metadata(), key);
  if (!value.ok()) return value.status();
  const GgufArray* array = file.FindArray(key);
  if (!array) return WrongKind(key, **value, fmt::format("an array of {}", wanted));
  GgufCursor cursor(array->bytes);
  std::vector<T> out;
  out.reserve(array->count);
  for (uint64_t i = 0; i < array->count; ++i) {
    GgufValue element;
    std::optional<T> converted;
    if (ReadGgufScalar(cursor, array->element_type, &element)) converted = convert(element);
    if (!converted) {
      return Error(Code::kInvalidArgument, "GGUF key {} is an array of {}, not of {}", Quote(key),
                   GgufValueTypeName(array->element_type), wanted);
    }
    out.push_back(std::move(*converted));
  }
  return out;
}

struct SplitName {
  std::string prefix;
  uint64_t count;
};

// "dir/name-00002-of-00005.gguf" -> {"dir/name", 5}.
std::optional<SplitName> ParseSplitName(const std::string& path) {
  constexpr size_t kSuffixBytes = std::string_view("-00001-of-00001.gguf").size();
  if (path.size() <= kSuffixBytes) return std::nullopt;
  const std::string suffix = path.substr(path.size() - kSuffixBytes);
  unsigned number = 0, count = 0;
  int consumed = 0;
  if (std::sscanf(suffix.c_str(), "-%5u-of-%5u.gguf%n", &number, &count, &consumed) != 2 ||
      consumed != static_cast<int>(kSuffixBytes)) {
    return std::nullopt;
  }
  return SplitName{path.substr(0, path.size() - kSuffixBytes), count};
}

uint64_t UintOr(const GgufPart& part, std::string_view key, uint64_t otherwise) {
  const auto found = part.metadata.find(key);
  return found == part.metadata.end() ? otherwise : AsUint(found->second).value_or(otherwise);
}

}  // namespace

Result<GgufFile> GgufFile::Parse(std::span<const std::byte> bytes) {
  auto part = ParseGguf(bytes);
  if (!part.ok()) return part.status();
  GgufFile file;
  file.parts_.push_back(bytes);
  file.metadata_ = std::move(part->metadata);
  file.tensors_ = std::move(part->tensors);
  file.version_ = part->version;
  return file;
}

Result<GgufFile> GgufFile::Open(const std::string& path) {
  auto mapped = MappedFile::Open(path);
  if (!mapped.ok()) return mapped.status();
  auto file = Parse(mapped->bytes());
  if (!file.ok()) return file.status().Prefixed(path);
  file->files_.push_back(std::make_shared<MappedFile>(std::move(*mapped)));

  const auto count = file->metadata_.find("split.count");
  const uint64_t parts = count == file->metadata_.end() ? 1 : AsUint(count->second).value_or(0);
  if (parts <= 1) return file;
  GgufFile whole;
  if (Status status = whole.OpenParts(path, parts); !status.ok()) return status;
  return whole;
}

Status GgufFile::OpenParts(const std::string& path, uint64_t count) {
  const auto name = ParseSplitName(path);
  if (!name || name->count != count || count > kMaxParts) {
    return Error(Code::kInvalidArgument,
                 "{} says that it is one of {} parts; its name must end in -00001-of-{:05}.gguf so "
                 "that the others can be found (or merge them with gguf-split)",
                 path, count, count);
  }
  uint64_t tensors_wanted = 0;
  for (uint64_t i = 0; i < count; ++i) {
    const std::string part_path = fmt::format("{}-{:05}-of-{:05}.gguf", name->prefix, i + 1, count);
    auto mapped = MappedFile::Open(part_path);
    if (!mapped.ok()) {
      return mapped.status().Prefixed(fmt::format("part {} of {} of a split model", i + 1, count));
    }
    auto part = ParseGguf(mapped->bytes());
    if (!part.ok()) return part.status().Prefixed(part_path);
    if (UintOr(*part, "split.no", i) != i || UintOr(*part, "split.count", 0) != count) {
      return Error(Code::kDataCorrupt, "{}: its split.no and split.count are not {} and {}",
                   part_path, i, count);
    }
    for (auto& [tensor_name, tensor] : part->tensors) {
      tensor.part = static_cast<uint32_t>(i);
      if (!tensors_.try_emplace(tensor_name, std::move(tensor)).second) {
        return Error(Code::kDataCorrupt, "{}: tensor {} is in an earlier part too", part_path,
                     Quote(tensor_name));
      }
    }
    if (i == 0) {
      tensors_wanted = UintOr(*part, "split.tensors.count", 0);
      metadata_ = std::move(part->metadata);
      version_ = part->version;
    }
    parts_.push_back(mapped->bytes());
    files_.push_back(std::make_shared<MappedFile>(std::move(*mapped)));
  }
  if (tensors_wanted != 0 && tensors_wanted != tensors_.size()) {
    return Error(Code::kDataCorrupt, "{}: the {} parts hold {} tensors, split.tensors.count is {}",
                 path, count, tensors_.size(), tensors_wanted);
  }
  return Status::Ok();
}

Result<std::string> GgufFile::GetString(std::string_view key) const {
  const auto value = Find(metadata_, key);
  if (!value.ok()) return value.status();
  if (const auto* text = std::get_if<std::string>(*value)) return *text;
  return WrongKind(key, **value, "a string");
}

Result<uint64_t> GgufFile::GetUint(std::string_view key) const {
  const auto value = Find(metadata_, key);
  if (!value.ok()) return value.status();
  if (const auto number = AsUint(**value)) return *number;
  return WrongKind(key, **value, "an unsigned integer");
}

Result<double> GgufFile::GetDouble(std::string_view key) const {
  const auto value = Find(metadata_, key);
  if (!value.ok()) return value.status();
  if (const auto number = AsDouble(**value)) return *number;
  return WrongKind(key, **value, "a number");
}

Result<bool> GgufFile::GetBool(std::string_view key) const {
  const auto value = Find(metadata_, key);
  if (!value.ok()) return value.status();
  if (const auto* flag = std::get_if<bool>(*value)) return *flag;
  return WrongKind(key, **value, "a boolean");
}

const GgufArray* GgufFile::FindArray(std::string_view key) const {
  const auto found = metadata_.find(key);
  return found == metadata_.end() ? nullptr : std::get_if<GgufArray>(&found->second);
}

Result<std::vector<std::string>> GgufFile::GetStrings(std::string_view key) const {
  return DecodeArray<std::string>(*this, key, "strings", AsString);
}

Result<std::vector<int64_t>> GgufFile::GetInts(std::string_view key) const {
  return DecodeArray<int64_t>(*this, key, "integers", AsInt);
}

Result<std::vector<double>> GgufFile::GetDoubles(std::string_view key) const {
  return DecodeArray<double>(*this, key, "numbers", AsDouble);
}

Result<kernels::StoredTensor> GgufFile::Tensor(std::string_view name) const {
  using kernels::DType;
  struct Row {
    uint32_t id;
    DType dtype;
  };
  constexpr Row kReadable[] = {
      {0, DType::kF32},   {1, DType::kF16},   {2, DType::kQ4_0}, {3, DType::kQ4_1},
      {6, DType::kQ5_0},  {7, DType::kQ5_1},  {8, DType::kQ8_0}, {12, DType::kQ4_K},
      {14, DType::kQ6_K}, {30, DType::kBF16},
  };
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) {
    return Error(Code::kNotFound, "the GGUF file has no tensor {}", Quote(name));
  }
  const GgufTensor& tensor = found->second;
  for (const Row& row : kReadable) {
    if (row.id != tensor.type) continue;
    kernels::StoredTensor stored;
    stored.dtype = row.dtype;
    stored.cols = static_cast<int64_t>(tensor.dims[0]);
    stored.rows = 1;
    for (size_t i = 1; i < tensor.dims.size(); ++i)
      stored.rows *= static_cast<int64_t>(tensor.dims[i]);
    stored.data = parts_[tensor.part].data() + tensor.offset;
    return stored;
  }
  return Error(Code::kUnsupported,
               "tensor {} is {}; readable are F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K "
               "and Q6_K",
               Quote(name), FindGgufType(tensor.type)->name);
}

}  // namespace baton::model
