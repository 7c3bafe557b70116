#include <algorithm>
#include <cstring>

#include "common/json.h"
#include "model/safetensors.h"
#include "model/text.h"

namespace baton::model {
namespace {

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the format's limit
constexpr size_t kMaxDims = 8;

struct DTypeBits {
  std::string_view name;
  int bytes;
};
constexpr DTypeBits kDTypes[] = {
    {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E5M2", 1}, {"F8_E4M3", 1}, {"F8_E8M0", 1},
    {"I16", 2},  {"U16", 2}, {"F16", 2}, {"BF16", 2},    {"I32", 4},     {"U32", 4},
    {"F32", 4},  {"F64", 8}, {"I64", 8}, {"U64", 8},     {"C64", 8},
};

Status Corrupt(std::string_view name, std::string_view reason) {
  return Error(Code::kDataCorrupt, "safetensors header: tensor {}: {}", Quote(name), reason);
}

Result<int> ElementBytes(std::string_view name, const json::object& entry) {
  const json::value* dtype = json::Find(entry, "dtype");
  if (!dtype || !dtype->is_string()) return Corrupt(name, "dtype is missing or no string");
  const std::string_view text = dtype->as_string();
  for (const DTypeBits& known : kDTypes) {
    if (known.name == text) return known.bytes;
  }
  return Error(Code::kUnsupported, "safetensors header: tensor {}: unknown dtype {}", Quote(name),
               Quote(text));
}

// Fills `shape`; gives the size in bytes that dtype and shape ask for.
Result<uint64_t> ReadShape(std::string_view name, const json::object& entry, int element_bytes,
                           std::vector<int64_t>* shape) {
  const json::value* value = json::Find(entry, "shape");
  const json::array* dims = value ? value->if_array() : nullptr;
  if (!dims) return Corrupt(name, "shape is missing or no array");
  if (dims->size() > kMaxDims) {
    return Corrupt(name,
                   fmt::format("{} dimensions, at most {} are possible", dims->size(), kMaxDims));
  }
  uint64_t bytes = element_bytes;
  for (const json::value& dim : *dims) {
    const int64_t* size = dim.if_int64();
    if (!size || *size < 0) return Corrupt(name, "a dimension is no whole number of 0 or more");
    if (__builtin_mul_overflow(bytes, static_cast<uint64_t>(*size), &bytes)) {
      return Corrupt(name, "the product of its dimensions overflows");
    }
    shape->push_back(*size);
  }
  return bytes;
}

struct Range {
  uint64_t begin, end;
  std::string_view name;
};

Result<Range> ReadOffsets(std::string_view name, const json::object& entry, uint64_t data_bytes) {
  const json::value* value = json::Find(entry, "data_offsets");
  const json::array* pair = value ? value->if_array() : nullptr;
  if (!pair || pair->size() != 2) return Corrupt(name, "data_offsets is no pair");
  const int64_t* begin = (*pair)[0].if_int64();
  const int64_t* end = (*pair)[1].if_int64();
  if (!begin || !end || *begin < 0 || *end < *begin) {
    return Corrupt(name, "data_offsets are no ascending pair of whole numbers");
  }
  if (static_cast<uint64_t>(*end) > data_bytes) {
    return Corrupt(name, fmt::format("ends at data byte {}, but the file has {} (cut off? fetch it "
                                     "again)",
                                     *end, data_bytes));
  }
  return Range{static_cast<uint64_t>(*begin), static_cast<uint64_t>(*end), name};
}

// Tensors must cover the data exactly: nothing shared, nothing hidden between them.
Status CheckCoverage(std::vector<Range> ranges, uint64_t data_bytes) {
  std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  uint64_t at = 0;
  for (const Range& range : ranges) {
    if (range.begin < at) return Corrupt(range.name, "overlaps another tensor");
    if (range.begin > at) {
      return Corrupt(range.name,
                     fmt::format("leaves a hole of {} bytes before it", range.begin - at));
    }
    at = range.end;
  }
  if (at != data_bytes) {
    return Error(Code::kDataCorrupt, "safetensors: {} bytes after the last tensor belong to none",
                 data_bytes - at);
  }
  return Status::Ok();
}

Result<json::object> ReadHeader(std::span<const std::byte> bytes, uint64_t* header_bytes) {
  if (bytes.size() < 8) {
    return Error(Code::kDataCorrupt, "byte 0: {} bytes are too few for a safetensors file",
                 bytes.size());
  }
  std::memcpy(header_bytes, bytes.data(), 8);
  if (*header_bytes > kMaxHeaderBytes || *header_bytes > bytes.size() - 8) {
    return Error(Code::kDataCorrupt,
                 "byte 0: safetensors header of {} bytes; {} are left and {} are the limit",
                 *header_bytes, bytes.size() - 8, kMaxHeaderBytes);
  }
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + 8, *header_bytes);
  if (text.empty() || text.front() != '{') {
    return Error(Code::kDataCorrupt, "byte 8: a safetensors header begins with an opening brace");
  }
  // The header may be padded with spaces at its end.
  auto parsed = json::Parse(text.substr(0, text.find_last_not_of(' ') + 1));
  if (!parsed.ok()) {
    return Error(Code::kDataCorrupt, "safetensors header at byte 8: {}", parsed.status().message());
  }
  if (!parsed->is_object()) {
    return Error(Code::kDataCorrupt, "byte 8: the safetensors header is no JSON object");
  }
  return std::move(parsed->as_object());
}

}  // namespace

Result<std::map<std::string, SafeTensor, std::less<>>> ParseSafetensors(
    std::span<const std::byte> bytes) {
  uint64_t header_bytes = 0;
  const auto header = ReadHeader(bytes, &header_bytes);
  if (!header.ok()) return header.status();
  const std::span<const std::byte> data = bytes.subspan(8 + header_bytes);

  std::map<std::string, SafeTensor, std::less<>> tensors;
  std::vector<Range> ranges;
  for (const auto& [key, value] : *header) {
    const std::string_view name = key;
    if (name == "__metadata__") continue;
    const json::object* entry = value.if_object();
    if (!entry) return Corrupt(name, "its entry is no object");
    SafeTensor tensor;
    const auto element_bytes = ElementBytes(name, *entry);
    if (!element_bytes.ok()) return element_bytes.status();
    const auto size = ReadShape(name, *entry, *element_bytes, &tensor.shape);
    if (!size.ok()) return size.status();
    const auto range = ReadOffsets(name, *entry, data.size());
    if (!range.ok()) return range.status();
    if (range->end - range->begin != *size) {
      return Corrupt(name, fmt::format("has {} bytes, its dtype and shape need {}",
                                       range->end - range->begin, *size));
    }
    tensor.dtype = std::string(json::Find(*entry, "dtype")->as_string());
    tensor.bytes = data.subspan(range->begin, *size);
    tensors.emplace(std::string(name), std::move(tensor));
    ranges.push_back(*range);
  }
  if (Status status = CheckCoverage(std::move(ranges), data.size()); !status.ok()) return status;
  return tensors;
}

Result<std::map<std::string, std::string>> ParseSafetensorsIndex(std::string_view text) {
  const auto parsed = json::Parse(text);
  if (!parsed.ok()) return parsed.status();
  const json::value* map =
      parsed->is_object() ? json::Find(parsed->as_object(), "weight_map") : nullptr;
  if (!map || !map->is_object()) {
    return Error(Code::kDataCorrupt, "safetensors index: weight_map is missing or no object");
  }
  std::map<std::string, std::string> out;
  for (const auto& [key, value] : map->as_object()) {
    const std::string_view name = key;
    const json::string* file = value.if_string();
    if (!file || file->empty()) {
      return Error(Code::kDataCorrupt, "safetensors index: the file of tensor {} is no name",
                   Quote(name));
    }
    const std::string_view file_name = *file;
    if (file_name.front() == '.' ||
        file_name.find_first_of(std::string_view("/\\\0", 3)) != file_name.npos) {
      return Error(Code::kDataCorrupt,
                   "safetensors index: tensor {} points at {}; only files of the same folder are "
                   "allowed",
                   Quote(name), Quote(file_name));
    }
    out.emplace(std::string(name), std::string(file_name));
  }
  if (out.empty()) return Error(Code::kDataCorrupt, "safetensors index: weight_map is empty");
  return out;
}

}  // namespace baton::model
