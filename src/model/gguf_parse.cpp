// Layout (specs/engine.md 3.1): magic, version, tensor count, metadata count, metadata, tensor
// infos, padding to the alignment, tensor data. Nothing is trusted: a count is held against the
// bytes that are left before anything is stored for it, so memory follows the file's real size.
#include "model/gguf_parse.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <vector>

#include "model/text.h"

namespace baton::model {

static_assert(std::endian::native == std::endian::little, "GGUF values are read as they lie");

namespace {

constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr uint64_t kDefaultAlignment = 32;
constexpr uint64_t kMaxAlignment = 1 << 20;
constexpr size_t kMaxNameBytes = 127;   // ggml itself stops at 63
constexpr size_t kMaxKeyBytes = 65535;  // the format's own limit
constexpr int kMaxArrayDepth = 4;
constexpr int kMaxDims = 4;
constexpr std::string_view kAlignmentKey = "general.alignment";

}  // namespace

template <typename T>
bool GgufCursor::Get(T* out, std::string_view what) {
  if (sizeof(T) > left()) {
    return Fail(
        fmt::format("file ends inside {} ({} bytes needed, {} left)", what, sizeof(T), left()));
  }
  std::memcpy(out, bytes_.data() + at_, sizeof(T));
  at_ += sizeof(T);
  return true;
}

bool GgufCursor::GetString(std::string_view* out, std::string_view what) {
  const uint64_t begin = at_;
  uint64_t size = 0;
  if (!Get(&size, what)) return false;
  if (size > left()) {
    return Fail(begin, Code::kDataCorrupt,
                fmt::format("{} claims {} bytes, {} are left", what, size, left()));
  }
  *out = {reinterpret_cast<const char*>(bytes_.data() + at_), static_cast<size_t>(size)};
  at_ += size;
  return true;
}

bool GgufCursor::Skip(uint64_t count, std::string_view what) {
  if (count > left()) {
    return Fail(fmt::format("{} claims {} bytes, {} are left", what, count, left()));
  }
  at_ += count;
  return true;
}

bool GgufCursor::GetCount(uint64_t* out, uint64_t least_bytes, std::string_view what) {
  const uint64_t begin = at_;
  if (!Get(out, what)) return false;
  if (*out > left() / least_bytes) {
    return Fail(begin, Code::kDataCorrupt,
                fmt::format("{} is {}, but the {} bytes left hold at most {}", what, *out, left(),
                            left() / least_bytes));
  }
  return true;
}

bool GgufCursor::Fail(uint64_t at, Code code, const std::string& reason) {
  if (error_.ok()) error_ = Error(code, "byte {}: {}", at, reason);
  return false;
}

std::string_view GgufValueTypeName(uint32_t type) {
  constexpr std::string_view kNames[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                         "bool", "string", "array", "u64", "i64", "f64"};
  return type < std::size(kNames) ? kNames[type] : "unknown";
}

uint32_t GgufScalarBytes(uint32_t type) {
  switch (type) {
    case kGgufU8:
    case kGgufI8:
    case kGgufBool:
      return 1;
    case kGgufU16:
    case kGgufI16:
      return 2;
    case kGgufU32:
    case kGgufI32:
    case kGgufF32:
      return 4;
    case kGgufU64:
    case kGgufI64:
    case kGgufF64:
      return 8;
    default:
      return 0;
  }
}

namespace {

template <typename Stored, typename Kept>
bool ReadAs(GgufCursor& cursor, uint32_t type, GgufValue* out) {
  Stored value{};
  if (!cursor.Get(&value, GgufValueTypeName(type))) return false;
  *out = static_cast<Kept>(value);
  return true;
}

bool ReadBool(GgufCursor& cursor, GgufValue* out) {
  const uint64_t begin = cursor.at();
  uint8_t value = 0;
  if (!cursor.Get(&value, "bool")) return false;
  if (value > 1) {
    return cursor.Fail(begin, Code::kDataCorrupt, fmt::format("bool is {}, not 0 or 1", value));
  }
  *out = value == 1;
  return true;
}

}  // namespace

bool ReadGgufScalar(GgufCursor& cursor, uint32_t type, GgufValue* out) {
  switch (type) {
    case kGgufU8:
      return ReadAs<uint8_t, uint64_t>(cursor, type, out);
    case kGgufI8:
      return ReadAs<int8_t, int64_t>(cursor, type, out);
    case kGgufU16:
      return ReadAs<uint16_t, uint64_t>(cursor, type, out);
    case kGgufI16:
      return ReadAs<int16_t, int64_t>(cursor, type, out);
    case kGgufU32:
      return ReadAs<uint32_t, uint64_t>(cursor, type, out);
    case kGgufI32:
      return ReadAs<int32_t, int64_t>(cursor, type, out);
    case kGgufU64:
      return ReadAs<uint64_t, uint64_t>(cursor, type, out);
    case kGgufI64:
      return ReadAs<int64_t, int64_t>(cursor, type, out);
    case kGgufF32:
      return ReadAs<float, double>(cursor, type, out);
    case kGgufF64:
      return ReadAs<double, double>(cursor, type, out);
    case kGgufBool:
      return ReadBool(cursor, out);
    case kGgufString: {
      std::string_view text;
      if (!cursor.GetString(&text, "string")) return false;
      *out = std::string(text);
      return true;
    }
    default:
      return cursor.Fail(fmt::format("unknown value type {}", type));
  }
}

namespace {

// Checks `count` elements of `type` without keeping them.
bool CheckElements(GgufCursor& cursor, uint32_t type, uint64_t count, int depth);

bool CheckArray(GgufCursor& cursor, int depth, GgufArray* out) {
  const uint64_t begin = cursor.at();
  if (depth > kMaxArrayDepth) {
    return cursor.Fail(fmt::format("arrays nest deeper than {}", kMaxArrayDepth));
  }
  if (!cursor.Get(&out->element_type, "array element type")) return false;
  const uint32_t scalar_bytes = GgufScalarBytes(out->element_type);
  if (out->element_type > kGgufF64) {
    return cursor.Fail(begin, Code::kDataCorrupt,
                       fmt::format("unknown array element type {}", out->element_type));
  }
  const uint64_t least_bytes = scalar_bytes                       ? scalar_bytes
                               : out->element_type == kGgufString ? 8
                                                                  : 12;
  if (!cursor.GetCount(&out->count, least_bytes, "array length")) return false;
  const uint64_t data = cursor.at();
  if (!CheckElements(cursor, out->element_type, out->count, depth)) return false;
  out->bytes = cursor.bytes().subspan(data, cursor.at() - data);
  return true;
}

bool CheckElements(GgufCursor& cursor, uint32_t type, uint64_t count, int depth) {
  if (type == kGgufBool) {
    GgufValue ignored;
    for (uint64_t i = 0; i < count; ++i) {
      if (!ReadBool(cursor, &ignored)) return false;
    }
    return true;
  }
  if (const uint32_t bytes = GgufScalarBytes(type)) return cursor.Skip(count * bytes, "array");
  for (uint64_t i = 0; i < count; ++i) {
    std::string_view text;
    GgufArray nested;
    const bool ok = type == kGgufString ? cursor.GetString(&text, "string in an array")
                                        : CheckArray(cursor, depth + 1, &nested);
    if (!ok) return false;
  }
  return true;
}

bool ReadMetadata(GgufCursor& cursor, uint64_t count, GgufPart* part) {
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t begin = cursor.at();
    std::string_view key;
    uint32_t type = 0;
    if (!cursor.GetString(&key, "metadata key")) return false;
    if (key.empty() || key.size() > kMaxKeyBytes) {
      return cursor.Fail(begin, Code::kDataCorrupt,
                         fmt::format("metadata key {} has {} bytes", i, key.size()));
    }
    if (!cursor.Get(&type, "metadata type")) return false;
    GgufValue value;
    if (type == kGgufArray) {
      GgufArray array;
      if (!CheckArray(cursor, 1, &array)) return false;
      value = array;
    } else if (!ReadGgufScalar(cursor, type, &value)) {
      return false;
    }
    if (!part->metadata.try_emplace(std::string(key), std::move(value)).second) {
      return cursor.Fail(begin, Code::kDataCorrupt,
                         "metadata key " + Quote(key) + " appears twice");
    }
  }
  return true;
}

// Fills dims, type and bytes; checks that the size is a number.
bool ReadShape(GgufCursor& cursor, GgufTensor* tensor) {
  const uint64_t begin = cursor.at();
  const std::string name = Quote(tensor->name);
  uint32_t dims = 0;
  if (!cursor.Get(&dims, "dimension count")) return false;
  if (dims < 1 || dims > kMaxDims) {
    return cursor.Fail(begin, Code::kDataCorrupt,
                       fmt::format("tensor {} has {} dimensions, 1 to 4 are possible", name, dims));
  }
  tensor->dims.resize(dims);
  uint64_t elements = 1;
  for (uint64_t& dim : tensor->dims) {
    const uint64_t at = cursor.at();
    if (!cursor.Get(&dim, "dimension")) return false;
    if (dim == 0 || dim > uint64_t{1} << 48 || __builtin_mul_overflow(elements, dim, &elements) ||
        elements > uint64_t{1} << 48) {
      return cursor.Fail(
          at, Code::kDataCorrupt,
          fmt::format("tensor {} has a dimension of {}: size zero or too large", name, dim));
    }
  }
  const uint64_t type_at = cursor.at();
  if (!cursor.Get(&tensor->type, "tensor type")) return false;
  const GgufTypeInfo* info = FindGgufType(tensor->type);
  if (!info) {
    return cursor.Fail(type_at, Code::kUnsupported,
                       fmt::format("tensor {} has unknown type {}", name, tensor->type));
  }
  if (tensor->dims[0] % info->block_elements != 0) {
    return cursor.Fail(type_at, Code::kDataCorrupt,
                       fmt::format("tensor {} has rows of {} values, {} needs whole blocks of {}",
                                   name, tensor->dims[0], info->name, info->block_elements));
  }
  tensor->bytes = elements / info->block_elements * info->block_bytes;  // < 2^48 * 292
  return true;
}

// `offset` of each tensor stays relative to the data until PlaceTensors.
bool ReadTensorInfos(GgufCursor& cursor, uint64_t count, uint64_t alignment, GgufPart* part) {
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t begin = cursor.at();
    std::string_view name;
    if (!cursor.GetString(&name, "tensor name")) return false;
    if (name.empty() || name.size() > kMaxNameBytes) {
      return cursor.Fail(begin, Code::kDataCorrupt,
                         fmt::format("name of tensor {} has {} bytes, 1 to {} are possible", i,
                                     name.size(), kMaxNameBytes));
    }
    GgufTensor tensor;
    tensor.name = std::string(name);
    if (!ReadShape(cursor, &tensor)) return false;
    const uint64_t offset_at = cursor.at();
    if (!cursor.Get(&tensor.offset, "tensor offset")) return false;
    if (tensor.offset % alignment != 0) {
      return cursor.Fail(offset_at, Code::kDataCorrupt,
                         fmt::format("offset {} of tensor {} is no multiple of the alignment {}",
                                     tensor.offset, Quote(name), alignment));
    }
    if (!part->tensors.try_emplace(tensor.name, std::move(tensor)).second) {
      return cursor.Fail(begin, Code::kDataCorrupt, "tensor " + Quote(name) + " appears twice");
    }
  }
  return true;
}

// Turns offsets into file offsets; each tensor must lie inside the file and apart from the others.
bool PlaceTensors(GgufCursor& cursor, uint64_t alignment, GgufPart* part) {
  const uint64_t size = cursor.bytes().size();
  const uint64_t data = (cursor.at() + alignment - 1) / alignment * alignment;
  std::vector<const GgufTensor*> by_offset;
  for (auto& [name, tensor] : part->tensors) {
    const uint64_t room = data < size ? size - data : 0;
    if (tensor.offset > room || tensor.bytes > room - tensor.offset) {
      return cursor.Fail(fmt::format(
          "tensor {} needs {} bytes at data offset {}, but the file has {} bytes of data (cut "
          "off? fetch it again)",
          Quote(name), tensor.bytes, tensor.offset, room));
    }
    tensor.offset += data;
    by_offset.push_back(&tensor);
  }
  std::sort(by_offset.begin(), by_offset.end(),
            [](const GgufTensor* a, const GgufTensor* b) { return a->offset < b->offset; });
  for (size_t i = 1; i < by_offset.size(); ++i) {
    const GgufTensor& a = *by_offset[i - 1];
    if (a.offset + a.bytes > by_offset[i]->offset) {
      return cursor.Fail(
          by_offset[i]->offset, Code::kDataCorrupt,
          fmt::format("tensors {} and {} overlap", Quote(a.name), Quote(by_offset[i]->name)));
    }
  }
  return true;
}

bool ReadHeader(GgufCursor& cursor, GgufPart* part) {
  uint32_t magic = 0;
  if (!cursor.Get(&magic, "magic")) return false;
  if (magic != kMagic) {
    return cursor.Fail(0, Code::kDataCorrupt, "not a GGUF file: it does not begin with \"GGUF\"");
  }
  if (!cursor.Get(&part->version, "version")) return false;
  if (part->version == 2 || part->version == 3) return true;
  if (const uint32_t swapped = __builtin_bswap32(part->version); swapped >= 1 && swapped <= 3) {
    return cursor.Fail(4, Code::kUnsupported, "big-endian GGUF; convert it to little-endian");
  }
  return cursor.Fail(4, Code::kUnsupported,
                     fmt::format("GGUF version {}; 2 and 3 are supported", part->version));
}

bool ReadAlignment(GgufCursor& cursor, const GgufPart& part, uint64_t* alignment) {
  *alignment = kDefaultAlignment;
  const auto found = part.metadata.find(kAlignmentKey);
  if (found == part.metadata.end()) return true;
  const uint64_t* value = std::get_if<uint64_t>(&found->second);
  if (!value || !std::has_single_bit(*value) || *value < 8 || *value > kMaxAlignment) {
    return cursor.Fail(value
                           ? fmt::format("general.alignment is {}; it must be a power of two from "
                                         "8 to {}",
                                         *value, kMaxAlignment)
                           : "general.alignment is no unsigned integer");
  }
  *alignment = *value;
  return true;
}

}  // namespace

Result<GgufPart> ParseGguf(std::span<const std::byte> bytes) {
  GgufCursor cursor(bytes);
  GgufPart part;
  uint64_t tensors = 0, entries = 0, alignment = 0;
  // Least bytes: a tensor info is name (8 + 1), dimensions (4 + 8), type 4, offset 8; an entry is
  // key (8 + 1), type 4, value 1.
  const bool ok = ReadHeader(cursor, &part) && cursor.GetCount(&tensors, 33, "tensor count") &&
                  cursor.GetCount(&entries, 14, "metadata count") &&
                  ReadMetadata(cursor, entries, &part) && ReadAlignment(cursor, part, &alignment) &&
                  ReadTensorInfos(cursor, tensors, alignment, &part) &&
                  PlaceTensors(cursor, alignment, &part);
  if (!ok) return cursor.error();
  return part;
}

}  // namespace baton::model
