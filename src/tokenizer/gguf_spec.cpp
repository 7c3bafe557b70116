// A byte-level BPE tokenizer out of what GGUF metadata says (tokenizer.ggml.*).
//
// Control and unknown tokens are matched in the text and skipped as special; user-defined ones are
// matched always. A byte without a token is dropped, as ggml and the models' own tokenizers do:
// GGUF's unknown_token_id is often an end token (SmolLM2: <|endoftext|>), which must not appear.
#include "tokenizer/bpe_tokenizer.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/tokenizer.h"

namespace baton::tokenizer {
namespace {

bool IsAdded(TokenKind kind) {
  return kind == TokenKind::kControl || kind == TokenKind::kUserDefined ||
         kind == TokenKind::kUnknown;
}

void AddToken(const BpeSpec& spec, size_t index, BpeParts& parts) {
  const std::string& text = spec.tokens[index];
  const auto id = static_cast<int32_t>(index);
  const TokenKind kind = spec.kinds.empty() ? TokenKind::kNormal : spec.kinds[index];
  if (IsAdded(kind)) {
    const bool special = kind != TokenKind::kUserDefined;
    parts.tokens.push_back({text, special});
    if (!text.empty()) {
      AddedToken added;
      added.content = text;
      added.id = id;
      added.special = special;
      parts.added.push_back(std::move(added));
    }
    return;
  }
  auto bytes = FromAlphabet(text);
  parts.tokens.push_back({bytes ? *bytes : text, false});
  // A text outside of the alphabet can't come out of merges; an empty one fills a gap.
  if (bytes && !bytes->empty()) parts.words.push_back({std::move(*bytes), id});
}

Status AddMerges(const BpeSpec& spec, BpeParts& parts) {
  parts.merges.reserve(spec.merges.size());
  for (size_t rank = 0; rank < spec.merges.size(); ++rank) {
    const std::string_view merge = spec.merges[rank];
    const size_t space = merge.find(' ', 1);
    if (space == std::string_view::npos || space + 1 == merge.size())
      return Error(Code::kDataCorrupt, "merge {}: \"{}\" is not two tokens", rank, merge);
    auto left = FromAlphabet(merge.substr(0, space));
    auto right = FromAlphabet(merge.substr(space + 1));
    if (!left || !right)
      return Error(Code::kDataCorrupt, "merge {}: \"{}\" is not in the byte alphabet", rank, merge);
    parts.merges.emplace_back(std::move(*left), std::move(*right));
  }
  return Status::Ok();
}

Status AddEnds(const BpeSpec& spec, BpeParts& parts) {
  parts.bos_id = spec.bos_id;
  parts.eos_id = spec.eos_id;
  if (spec.eot_id) parts.more_end_ids.push_back(*spec.eot_id);
  if (spec.eom_id) parts.more_end_ids.push_back(*spec.eom_id);
  if (spec.add_bos && !spec.bos_id)
    return Error(Code::kDataCorrupt, "add_bos_token is set, but there is no bos_token_id");
  if (spec.add_eos && !spec.eos_id)
    return Error(Code::kDataCorrupt, "add_eos_token is set, but there is no eos_token_id");
  if (spec.add_bos) parts.prefix_ids.push_back(*spec.bos_id);
  if (spec.add_eos) parts.suffix_ids.push_back(*spec.eos_id);
  return Status::Ok();
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> MakeBpeTokenizer(BpeSpec spec) {
  if (spec.tokens.empty()) return Error(Code::kDataCorrupt, "the vocabulary has no tokens");
  if (!spec.kinds.empty() && spec.kinds.size() != spec.tokens.size())
    return Error(Code::kDataCorrupt, "{} token types for {} tokens", spec.kinds.size(),
                 spec.tokens.size());
  auto named = FindPretokenizer(spec.pre);
  if (!named.ok()) return named.status();
  BpeParts parts;
  parts.pretokenizer = std::move(named->splitter);
  parts.options.ignore_merges = named->ignore_merges;
  if (named->nfc) parts.normal_forms.push_back(NormalForm::kNfc);
  parts.tokens.reserve(spec.tokens.size());
  for (size_t i = 0; i < spec.tokens.size(); ++i) AddToken(spec, i, parts);
  if (Status s = AddMerges(spec, parts); !s.ok()) return s;
  if (Status s = AddEnds(spec, parts); !s.ok()) return s;
  return MakeTokenizer(std::move(parts));
}

}  // namespace baton::tokenizer
