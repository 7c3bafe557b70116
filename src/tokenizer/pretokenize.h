// Splits text into the pre-tokens that BPE merges within, as the model's training did.
//
// A Pretokenizer is a list of steps, each applied to every piece that the one before left. It is
// immutable; a PieceBuffer is the scratch of one call. Steps and their semantics follow Hugging
// Face tokenizers (Split, Digits, ByteLevel, Punctuation, Whitespace); the named lists follow
// GGUF's `tokenizer.ggml.pre`.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"
#include "tokenizer/regex.h"

namespace baton::tokenizer {

// What becomes of a match (or of a gap, when inverted).
enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

struct PretokenizeStep {
  enum class Kind {
    kSplit,        // cut by `regex`
    kPrefixSpace,  // put a space before every piece that does not start with one
    kToAlphabet,   // rewrite the bytes in GPT-2's alphabet, for steps that come after ByteLevel
  };
  Kind kind = Kind::kSplit;
  std::optional<Regex> regex;
  SplitBehavior behavior = SplitBehavior::kIsolated;
  bool invert = false;
};

// Result and scratch of one Split. `text` is a view of the input, or of a copy that steps edited.
struct PieceBuffer {
  std::string_view text;
  std::vector<Span> pieces;  // not empty, in order, into `text`

  std::string edited, stand_in;  // storage behind views
  std::vector<Span> next;
  std::vector<std::pair<Span, bool>> parts;
};

class Pretokenizer {
 public:
  Pretokenizer() = default;  // no steps: the whole text is one piece
  explicit Pretokenizer(std::vector<PretokenizeStep> steps) : steps_(std::move(steps)) {}

  // `text`: well-formed UTF-8. kResourceExhausted / kDeadlineExceeded: the patterns need more steps
  // or seconds than any real one does.
  Status Split(std::string_view text, PieceBuffer& buffer) const;

 private:
  std::vector<PretokenizeStep> steps_;
};

// The pattern of GPT-2, which ByteLevel uses.
inline constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// A character that is numeric (Nd, Nl, No) to HF's Digits: Unicode 17's are beyond our tables.
inline constexpr std::string_view kNumberPattern =
    R"([\p{N}\x{11DE0}-\x{11DE9}\x{16FF4}-\x{16FF6}])";

// What a GGUF file's `tokenizer.ggml.pre` stands for.
struct NamedPretokenizer {
  Pretokenizer splitter;
  bool ignore_merges = false;  // see BpeOptions
  bool nfc = false;            // the model's text is in normal form C
};

// kUnsupported for a name that we do not know; the message lists those that we do.
Result<NamedPretokenizer> FindPretokenizer(std::string_view pre);

}  // namespace baton::tokenizer
