#include "kernels/cpu/pack.h"

#include <algorithm>
#include <cstring>

#include "common/half.h"
#include "kernels/host_buffer.h"

namespace baton::kernels::cpu {
namespace {

// One row in the canonical form, not yet laid out. d has one scale a block, or two with halves.
struct RowCodes {
  std::vector<uint8_t> codes;
  std::vector<float> d;
  std::vector<float> m;
};

struct QuantForm {
  int code_bits;
  bool wide_scales;
  bool has_min;
  bool half_scales;
  float centre;
};

QuantForm FormOf(DType dtype) {
  switch (dtype) {
    case DType::kQ4_0:
      return {4, false, false, false, 8};
    case DType::kQ4_1:
      return {4, false, true, false, 0};
    case DType::kQ5_0:
      return {8, false, false, false, 16};
    case DType::kQ5_1:
      return {8, false, true, false, 0};
    case DType::kQ8_0:
      return {8, false, false, false, 128};
    case DType::kQ4_K:
      return {4, true, true, false, 0};
    case DType::kQ6_K:
      return {8, true, false, true, 32};
    default:
      BATON_CHECK(false, "{} has no codes", InfoOf(dtype).name);
  }
}

float HalfAt(const uint8_t* p) {
  Half h;
  std::memcpy(&h, p, sizeof h);
  return ToFloat(h);
}

// Codes of 16 bytes of nibbles: low ones first, `high` adds fifth bits.
void UnpackNibbles(const uint8_t* in, uint32_t high, uint8_t* out) {
  for (int j = 0; j < 16; ++j) {
    out[j] = static_cast<uint8_t>((in[j] & 15) | ((high >> j) & 1) << 4);
    out[j + 16] = static_cast<uint8_t>((in[j] >> 4) | ((high >> (j + 16)) & 1) << 4);
  }
}

// The formats with one scale per 32 elements: fields in file order d, [m], [high bits], codes.
void UnpackSimple(DType dtype, const uint8_t* block, int b, RowCodes& row) {
  const bool has_min = dtype == DType::kQ4_1 || dtype == DType::kQ5_1;
  const bool has_high = dtype == DType::kQ5_0 || dtype == DType::kQ5_1;
  row.d[b] = HalfAt(block);
  block += 2;
  if (has_min) {
    row.m[b] = HalfAt(block);
    block += 2;
  }
  uint8_t* codes = &row.codes[static_cast<size_t>(b) * kBlock];
  if (dtype == DType::kQ8_0) {
    for (int j = 0; j < kBlock; ++j) codes[j] = static_cast<uint8_t>(block[j] ^ 0x80);
    return;
  }
  uint32_t high = 0;
  if (has_high) {
    std::memcpy(&high, block, sizeof high);
    block += 4;
  }
  UnpackNibbles(block, high, codes);
}

void UnpackQ4K(const uint8_t* block, int first, RowCodes& row) {
  const float d = HalfAt(block);
  const float dmin = HalfAt(block + 2);
  const uint8_t* s = block + 4;
  for (int j = 0; j < 8; ++j) {
    const int scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | (s[j - 4] >> 6) << 4;
    const int minimum = j < 4 ? s[j + 4] & 63 : (s[j + 4] >> 4) | (s[j] >> 6) << 4;
    row.d[first + j] = d * static_cast<float>(scale);
    row.m[first + j] = -(dmin * static_cast<float>(minimum));
    const uint8_t* in = block + 16 + 32 * (j / 2);
    uint8_t* codes = &row.codes[static_cast<size_t>(first + j) * kBlock];
    for (int l = 0; l < kBlock; ++l)
      codes[l] = static_cast<uint8_t>(j % 2 == 0 ? in[l] & 15 : in[l] >> 4);
  }
}

void UnpackQ6K(const uint8_t* block, int first, RowCodes& row) {
  const float d = HalfAt(block + 208);
  const auto* scales = reinterpret_cast<const int8_t*>(block + 192);
  uint8_t* codes = &row.codes[static_cast<size_t>(first) * kBlock];
  for (int i = 0; i < 256; ++i) {
    const int half = i / 128, quarter = i % 128 / 32, l = i % 32;
    const uint8_t low = block[64 * half + 32 * (quarter % 2) + l];
    const uint8_t high = block[128 + 32 * half + l];
    codes[i] = static_cast<uint8_t>((quarter < 2 ? low & 15 : low >> 4) |
                                    ((high >> (2 * quarter)) & 3) << 4);
  }
  for (int i = 0; i < 16; ++i) row.d[2 * first + i] = d * static_cast<float>(scales[i]);
}

void UnpackRow(const StoredTensor& stored, int64_t r, RowCodes& row) {
  const DTypeInfo& info = InfoOf(stored.dtype);
  const auto* block =
      reinterpret_cast<const uint8_t*>(stored.data) + static_cast<size_t>(r) * stored.RowBytes();
  const int step = info.block_elements / kBlock;
  for (int b = 0; b < stored.cols / kBlock; b += step, block += info.block_bytes) {
    if (stored.dtype == DType::kQ4_K) UnpackQ4K(block, b, row);
    else if (stored.dtype == DType::kQ6_K) UnpackQ6K(block, b, row);
    else UnpackSimple(stored.dtype, block, b, row);
  }
}

// Position of a column's code inside a block of a panel, for row 0 of the panel: byte, and shift
// inside the byte.
struct CodePlace {
  int byte;
  int shift;
};
constexpr CodePlace PlaceOf(int code_bits, int column) {
  const int per_vector = code_bits == 4 ? 8 : 4;
  const int vector = column / per_vector;
  const int word = column % 2;
  const int position = column % per_vector / 2;  // nibble or byte of the word
  if (code_bits == 8) return {vector * 64 + word * 2 + position, 0};
  return {vector * 64 + word * 2 + position / 2, position % 2 * 4};
}
struct CodePlaces {
  constexpr explicit CodePlaces(int code_bits) {
    for (int c = 0; c < kBlock; ++c) of[c] = PlaceOf(code_bits, c);
  }
  CodePlace of[kBlock] = {};
};
constexpr CodePlaces kPlaces4(4), kPlaces8(8);
const CodePlaces& PlacesFor(int code_bits) {
  return code_bits == 4 ? kPlaces4 : kPlaces8;
}

size_t BlockCodeBytes(const QuantPanels& q) {
  return size_t{kPanelRows} * kBlock * q.code_bits / 8;
}
int ScalesPerRow(const QuantPanels& q) {
  return q.has_min || q.half_scales ? 2 : 1;
}
size_t ScaleBytes(const QuantPanels& q) {
  return q.wide_scales ? 4 : 2;
}

// Address of scale `index` (0: d, 1: m or the second half's d) of a block and row.
size_t ScaleOffset(const QuantPanels& q, int block, int index, int lane) {
  return q.scales_offset +
         ((static_cast<size_t>(block) * ScalesPerRow(q) + index) * kPanelRows + lane) *
             ScaleBytes(q);
}

void WriteScale(const QuantPanels& q, std::byte* panel, int block, int index, int lane, float v) {
  std::byte* out = panel + ScaleOffset(q, block, index, lane);
  if (q.wide_scales) {
    std::memcpy(out, &v, sizeof v);
  } else {
    const Half h = ToHalf(v);
    std::memcpy(out, &h, sizeof h);
  }
}

float ReadScale(const QuantPanels& q, const std::byte* panel, int block, int index, int lane) {
  const std::byte* in = panel + ScaleOffset(q, block, index, lane);
  if (!q.wide_scales) return HalfAt(reinterpret_cast<const uint8_t*>(in));
  float v;
  std::memcpy(&v, in, sizeof v);
  return v;
}

void WriteQuantRow(const QuantPanels& q, const RowCodes& row, int lane, std::byte* panel) {
  const CodePlaces& places = PlacesFor(q.code_bits);
  for (int b = 0; b < q.blocks; ++b) {
    auto* codes = reinterpret_cast<uint8_t*>(panel) + b * BlockCodeBytes(q) + lane * 4;
    for (int c = 0; c < kBlock; ++c) {
      const CodePlace place = places.of[c];
      codes[place.byte] |= static_cast<uint8_t>(row.codes[b * kBlock + c] << place.shift);
    }
    if (q.half_scales) {
      WriteScale(q, panel, b, 0, lane, row.d[2 * b]);
      WriteScale(q, panel, b, 1, lane, row.d[2 * b + 1]);
    } else {
      WriteScale(q, panel, b, 0, lane, row.d[b]);
      if (q.has_min) WriteScale(q, panel, b, 1, lane, row.m[b]);
    }
  }
}

void PackQuantPanels(const StoredTensor& part, const PackedSegment& segment, std::byte* data,
                     Share share) {
  const QuantPanels& q = segment.quant;
  RowCodes row;
  row.codes.resize(static_cast<size_t>(part.cols));
  row.d.resize(static_cast<size_t>(q.blocks) * (q.half_scales ? 2 : 1));
  row.m.resize(static_cast<size_t>(q.blocks));
  for (int64_t r = share.begin * kPanelRows; r < share.end * kPanelRows && r < part.rows; ++r) {
    UnpackRow(part, r, row);
    WriteQuantRow(q, row, static_cast<int>(r % kPanelRows),
                  data + static_cast<size_t>(r / kPanelRows) * q.panel_bytes);
  }
}

size_t ElementBytes(Element element) {
  return element == Element::kF32 ? 4 : 2;
}

void PackDensePanels(const StoredTensor& part, const PackedSegment& segment, std::byte* data,
                     Share share) {
  const DensePanels& dense = segment.dense;
  const size_t size = ElementBytes(dense.element);
  std::vector<float> values;  // only for formats that change
  if (part.dtype == DType::kF8E4M3) values.resize(static_cast<size_t>(part.cols));
  for (int64_t r = share.begin * kPanelRows; r < share.end * kPanelRows && r < part.rows; ++r) {
    const std::byte* in = part.data + static_cast<size_t>(r) * part.RowBytes();
    if (!values.empty()) {
      DequantizeRows(part, r, 1, values.data());
      in = reinterpret_cast<const std::byte*>(values.data());
    }
    std::byte* out = data + static_cast<size_t>(r / kPanelRows) * dense.panel_bytes +
                     static_cast<size_t>(r % kPanelRows) * size;
    for (int64_t c = 0; c < part.cols; ++c)
      std::memcpy(out + c * kPanelRows * size, in + c * size, size);
  }
}

size_t RoundUp64(size_t bytes) {
  return (bytes + 63) / 64 * 64;
}

// Shapes and sizes of a part, without its data.
PackedSegment PlanSegment(const StoredTensor& part) {
  PackedSegment s;
  s.rows = part.rows;
  s.panels = static_cast<int>((part.rows + kPanelRows - 1) / kPanelRows);
  s.quantised = InfoOf(part.dtype).block_elements > 1;
  if (s.quantised) {
    const QuantForm form = FormOf(part.dtype);
    QuantPanels& q = s.quant;
    q.blocks = static_cast<int>(part.cols / kBlock);
    q.code_bits = form.code_bits;
    q.wide_scales = form.wide_scales;
    q.has_min = form.has_min;
    q.half_scales = form.half_scales;
    q.minus_centre = -form.centre;
    q.scales_offset = q.blocks * BlockCodeBytes(q);
    q.panel_bytes = RoundUp64(ScaleOffset(q, q.blocks, 0, 0));
  } else {
    DensePanels& d = s.dense;
    d.cols = static_cast<int>(part.cols);
    d.element = part.dtype == DType::kF16    ? Element::kF16
                : part.dtype == DType::kBF16 ? Element::kBF16
                                             : Element::kF32;
    d.panel_bytes =
        RoundUp64(static_cast<size_t>(part.cols) * kPanelRows * ElementBytes(d.element));
  }
  return s;
}

size_t PanelBytes(const PackedSegment& s) {
  return s.quantised ? s.quant.panel_bytes : s.dense.panel_bytes;
}

void ReadQuantRow(const QuantPanels& q, int64_t row, float* out) {
  const std::byte* panel = q.data + static_cast<size_t>(row / kPanelRows) * q.panel_bytes;
  const int lane = static_cast<int>(row % kPanelRows);
  const int mask = (1 << q.code_bits) - 1;
  const CodePlaces& places = PlacesFor(q.code_bits);
  for (int b = 0; b < q.blocks; ++b) {
    const auto* codes = reinterpret_cast<const uint8_t*>(panel) + b * BlockCodeBytes(q) + lane * 4;
    const float d0 = ReadScale(q, panel, b, 0, lane);
    const float d1 = q.half_scales ? ReadScale(q, panel, b, 1, lane) : d0;
    const float m = q.has_min ? ReadScale(q, panel, b, 1, lane) : 0.0f;
    for (int c = 0; c < kBlock; ++c) {
      const CodePlace place = places.of[c];
      const auto code = static_cast<float>((codes[place.byte] >> place.shift) & mask);
      *out++ = (code + q.minus_centre) * (c < kBlock / 2 ? d0 : d1) + m;
    }
  }
}

void ReadDenseRow(const DensePanels& d, int64_t row, float* out) {
  const size_t size = ElementBytes(d.element);
  const std::byte* in = d.data + static_cast<size_t>(row / kPanelRows) * d.panel_bytes +
                        static_cast<size_t>(row % kPanelRows) * size;
  for (int c = 0; c < d.cols; ++c, in += kPanelRows * size) {
    if (d.element == Element::kF32) {
      std::memcpy(out + c, in, sizeof(float));
      continue;
    }
    uint16_t bits;
    std::memcpy(&bits, in, sizeof bits);
    out[c] = d.element == Element::kF16 ? ToFloat(Half{bits}) : ToFloat(BFloat16{bits});
  }
}

}  // namespace

void PackedWeight::ReadRow(int64_t row, float scale, float* out) const {
  for (const PackedSegment& s : segments) {
    if (row >= s.row_begin + s.rows) continue;
    if (s.quantised) ReadQuantRow(s.quant, row - s.row_begin, out);
    else ReadDenseRow(s.dense, row - s.row_begin, out);
    break;
  }
  if (scale != 1.0f)
    for (int64_t c = 0; c < cols; ++c) out[c] *= scale;
}

Result<std::unique_ptr<const PackedWeight>> PackWeight(std::span<const StoredTensor> parts,
                                                       ThreadTeam& team) {
  auto weight = std::make_unique<PackedWeight>();
  weight->cols = parts[0].cols;
  for (const StoredTensor& part : parts) {
    PackedSegment s = PlanSegment(part);
    s.row_begin = weight->rows;
    weight->rows += s.rows;
    weight->panels += s.panels;
    weight->bytes += s.panels * PanelBytes(s);
    weight->any_quantised |= s.quantised;
    weight->segments.push_back(s);
  }
  auto memory = AllocateHostBuffer(weight->bytes);
  if (!memory.ok()) return memory.status().Prefixed("packing a weight");
  weight->memory = std::move(memory).value();

  std::byte* data = weight->memory->span().data;
  for (size_t i = 0; i < parts.size(); ++i) {
    PackedSegment& s = weight->segments[i];
    (s.quantised ? s.quant.data : s.dense.data) = data;
    const int tasks = std::min(s.panels, team.size() * 4);
    team.Run(tasks, [&](int task, int) {
      const Share share = ShareOf(s.panels, task, tasks);
      if (s.quantised) PackQuantPanels(parts[i], s, data, share);
      else PackDensePanels(parts[i], s, data, share);
    });
    data += s.panels * PanelBytes(s);
  }
  return std::unique_ptr<const PackedWeight>(std::move(weight));
}

}  // namespace baton::kernels::cpu
