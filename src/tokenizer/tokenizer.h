// Text to token ids and back: byte-level BPE as GPT-2 defined it, with the pre-tokenizer patterns
// of the models that we serve, added and special tokens, and NFC where a model asks for it.
//
// Sources: GGUF metadata (the caller copies it into a BpeSpec) and Hugging Face `tokenizer.json`.
// A Tokenizer is immutable after creation and safe to use from any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"

namespace baton::tokenizer {

enum class TokenKind : uint8_t {  // values of GGUF's tokenizer.ggml.token_type
  kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6,
};

// What GGUF metadata says about a byte-level BPE tokenizer (specs/engine.md 3.4).
struct BpeSpec {
  std::string pre;                         // "smollm", "llama-bpe", "qwen2", "deepseek-v3", "gpt-2" ...
  std::vector<std::string> tokens;         // index = id; GPT-2's printable alphabet
  std::vector<TokenKind> kinds;            // same size as tokens, or empty: all normal
  std::vector<std::string> merges;         // "left right", index = rank
  std::optional<int32_t> bos_id, eos_id, unknown_id, pad_id, eot_id, eom_id;
  bool add_bos = false;
  bool add_eos = false;
};

struct EncodeOptions {
  bool add_special_tokens = true;  // bos / eos where the model adds them (never for chat templates)
  bool parse_special = true;       // control tokens written in the text become their ids
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // `text` must be valid UTF-8 (kInvalidArgument otherwise).
  virtual Result<std::vector<int32_t>> Encode(std::string_view text,
                                              const EncodeOptions& options) const = 0;

  // The raw bytes of one token: may be part of a UTF-8 character. Control tokens give their name.
  // An id out of range gives an empty string.
  virtual std::string_view TokenBytes(int32_t id) const = 0;
  virtual bool IsSpecial(int32_t id) const = 0;  // control tokens: skipped by skip_special_tokens

  virtual int32_t vocab_size() const = 0;
  virtual std::optional<int32_t> bos_id() const = 0;
  virtual std::optional<int32_t> eos_id() const = 0;
  // Every id that ends a turn (eos, eot, eom); the engine stops on any of them.
  virtual const std::vector<int32_t>& end_ids() const = 0;
  // Exact text of a token as it stands in the vocabulary (for bos_token in templates), or nullopt.
  virtual std::optional<int32_t> FindToken(std::string_view text) const = 0;

  // All bytes of `ids` joined; invalid UTF-8 becomes U+FFFD as Hugging Face decodes it.
  std::string Decode(std::span<const int32_t> ids, bool skip_special_tokens) const;
};

// kUnsupported (unknown `pre`) or kDataCorrupt (a merge of unknown tokens, an id out of range ...).
// `unknown_id` and `pad_id` are not used: a byte that has no token is dropped, as ggml does.
Result<std::unique_ptr<Tokenizer>> MakeBpeTokenizer(BpeSpec spec);

// Whether a GGUF file with this `pre` adds bos when it does not say (no tokenizer.ggml.add_bos_token).
bool AddsBosByDefault(std::string_view pre);

// `path`: a tokenizer.json (model type BPE, byte-level). Sibling tokenizer_config.json, when there,
// gives bos/eos names. Hostile files are refused with the JSON path of what is wrong.
Result<std::unique_ptr<Tokenizer>> LoadTokenizerJson(const std::string& path);
Result<std::unique_ptr<Tokenizer>> ParseTokenizerJson(std::string_view json,
                                                      std::string_view config_json);

// Turns a stream of tokens into a stream of text that never splits a UTF-8 character: bytes of an
// unfinished character wait for the next token. One object per request; not thread-safe.
class IncrementalDetokenizer {
 public:
  IncrementalDetokenizer(const Tokenizer& tokenizer, bool skip_special_tokens)
      : tokenizer_(&tokenizer), skip_special_(skip_special_tokens) {}

  // Appends the text that `id` completes to `out`.
  void Push(int32_t id, std::string& out);
  // Ends the stream: an unfinished character is emitted as U+FFFD.
  void Flush(std::string& out);

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_;
  std::string pending_;  // an unfinished UTF-8 sequence, at most 3 bytes
};

}  // namespace baton::tokenizer
