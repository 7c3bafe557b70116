// What one instruction set offers: a table of plain functions over plain structs.
//
// Each kernels_<isa>.cpp fills one table from the same kernel bodies (*_body.h) compiled with its
// own flags, and cpu_ops.cpp picks a table once, at start. These structs are all that crosses, so
// that no inline function compiled for AVX-512 can be linked into code that runs everywhere.
//
// All kernels work on the share that they are given and know nothing of threads.
#pragma once

#include <cstddef>
#include <cstdint>

namespace baton::kernels::cpu {

inline constexpr int kPanelRows = 16;        // weight rows side by side in one panel
inline constexpr int kBlock = 32;            // columns that share a scale
inline constexpr int kTokenGroup = 12;       // tokens whose quantised activations lie together
inline constexpr int kAttentionTile = 64;    // KV positions per softmax step, from position 0
inline constexpr int kAttentionChunk = 512;  // positions per partial result, from position 0

// Element formats of dense panels and of KV pages.
enum class Element : uint8_t { kF32, kF16, kBF16 };

// Quantised weights, see pack.h for the layout.
struct QuantPanels {
  const std::byte* data;
  size_t panel_bytes;
  size_t scales_offset;  // from the start of a panel
  int blocks;            // cols / kBlock
  int code_bits;         // 4 or 8
  bool wide_scales;      // f32 instead of f16
  bool has_min;          // value = code * d + m; else value = (code - centre) * d
  bool half_scales;      // two scales a block, one per 16 columns (8-bit codes, f32, no min)
  float minus_centre;
};

struct DensePanels {
  const std::byte* data;
  size_t panel_bytes;
  int cols;
  Element element;
};

// Activations of one block: value = scale * code, sums already scaled.
struct BlockScale {
  float scale;
  float sum;          // scale * sum of the 32 codes
  float half_sum[2];  // the same for each 16
};

// Activations quantised to 16 bits, in groups of kTokenGroup tokens (the last one may be smaller):
// codes [group][block][token of the group][kBlock], scales the same without the last dimension. A
// tile of tokens thus reads one run of memory with constant offsets.
struct QuantRows {
  const int16_t* codes;
  const BlockScale* scales;
  int tokens;
};

// Where a segment of weight rows writes: y[t * stride + row]. `bias` and `y` point at its row 0.
struct LinearOutput {
  float* y;
  int64_t stride;
  const float* bias;  // may be null
  bool add;
  int rows;  // rows of the segment: the last panel may be partly padding
};

struct AttentionJob {
  const float* q;  // the slice's first row
  int64_t q_stride;
  float* out;
  int64_t out_stride;
  const std::byte* layer_base;  // K of page 0 of this layer
  size_t page_bytes;
  size_t plane_bytes;  // from K to V
  size_t token_bytes;
  const int32_t* pages;
  int page_tokens;
  Element element;
  int group;  // query heads per KV head
  int head_dim;
  float scale;
  int window;
  int first_position;  // of the slice's first row
};

// Working memory of one attention thread, for up to `rows` query rows. Floats, 64-byte aligned.
struct AttentionScratch {
  float* q;       // [rows, padded]
  float* keys;    // [kAttentionTile, padded] as loaded
  float* keys_t;  // [padded, kAttentionTile]
  float* values;  // [kAttentionTile, padded]
  float* scores;  // [rows, kAttentionTile]
  float* alpha;   // [rows]
};

// Softmax state of some query rows over some positions.
struct AttentionState {
  float* top;    // [rows] largest score, -inf when nothing was visible
  float* total;  // [rows]
  float* mixed;  // [rows, padded]
};

struct KernelTable {
  const char* isa;

  // Quantises one row of `cols` (a multiple of kBlock) values; block b goes to
  // codes + b * group_tokens * kBlock and scales + b * group_tokens.
  void (*quantize_row)(const float* x, int cols, int group_tokens, int16_t* codes,
                       BlockScale* scales);
  void (*linear_quant)(const QuantPanels& w, const QuantRows& x, const LinearOutput& out,
                       int panel_begin, int panel_end);
  void (*linear_dense)(const DensePanels& w, const float* x, int tokens, const LinearOutput& out,
                       int panel_begin, int panel_end);

  void (*rms_norm)(const float* x, const float* weight, int width, float eps, float* out);
  void (*silu_mul)(const float* gate, const float* up, int n, float* out);
  void (*gelu_tanh_mul)(const float* gate, const float* up, int n, float* out);
  void (*rope)(float* x, int heads, int head_dim, int rotary_dim, bool interleaved,
               const float* cos_sin);
  void (*store)(const float* x, int n, Element element, std::byte* out);

  // Loads and scales the query rows of `tokens` tokens from `token_begin` and one KV head.
  void (*attention_load_q)(const AttentionJob& job, int kv_head, int token_begin, int tokens,
                           const AttentionScratch& scratch);
  // State of those rows over the positions of one chunk. Uses scratch.q.
  void (*attention_chunk)(const AttentionJob& job, int kv_head, int token_begin, int tokens,
                          int chunk, const AttentionScratch& scratch, const AttentionState& state);
  // into := into merged with next (the following positions).
  void (*attention_merge)(const AttentionState& into, const AttentionState& next, int rows,
                          int padded);
  void (*attention_store)(const AttentionJob& job, int kv_head, int token_begin, int tokens,
                          const AttentionState& state);

  // Ceilings: sums `bytes` (a multiple of 512) of memory; runs `rounds` of register-only int8 dot
  // products and returns the multiply-adds done.
  float (*read_bytes)(const std::byte* data, size_t bytes);
  int64_t (*int8_dots)(int64_t rounds, int32_t* sink);
};

// Head dimensions are padded to whole vectors of the widest instruction set.
inline constexpr int PadHead(int head_dim) {
  return (head_dim + 15) / 16 * 16;
}

const KernelTable& Avx2Kernels();
const KernelTable& Avx512Kernels();
const KernelTable& Avx512VnniKernels();

}  // namespace baton::kernels::cpu
