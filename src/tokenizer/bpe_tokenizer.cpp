#include "tokenizer/bpe_tokenizer.h"

#include <algorithm>
#include <array>
#include <unordered_map>

#include "common/json.h"
#include "tokenizer/byte_alphabet.h"

namespace baton::tokenizer {
namespace {

// Larger than any context that we serve; keeps all offsets far from 32 bits.
constexpr size_t kMaxTextBytes = size_t{256} << 20;

// Control tokens that end a turn or a document, by the names that model families gave them. A model
// may emit either kind, so generation stops at both: SmolLM2's <|endoftext|> is one, though its eos
// is <|im_end|>.
constexpr std::array<std::string_view, 14> kEndNames = {
    "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|im_end|>", "<|endoftext|>", "<|eot|>",
    "<|eom|>", "<end_of_turn>", "<|END_OF_TURN_TOKEN|>", "<|return|>", "<|call|>", "<EOT>",
    "</s>", "<｜end▁of▁sentence｜>"};
// Ends a turn in Phi; in gpt-oss, which has <|return|>, only a message within a turn.
constexpr std::string_view kPhiEnd = "<|end|>", kHarmonyReturn = "<|return|>";

class BpeTokenizer final : public Tokenizer {
 public:
  static Result<std::unique_ptr<Tokenizer>> Make(BpeParts parts);

  Result<std::vector<int32_t>> Encode(std::string_view text,
                                      const EncodeOptions& options) const override;
  std::string_view TokenBytes(int32_t id) const override {
    return IsValid(id) ? std::string_view(tokens_[static_cast<size_t>(id)].bytes)
                       : std::string_view();
  }
  bool IsSpecial(int32_t id) const override {
    return IsValid(id) && tokens_[static_cast<size_t>(id)].special;
  }
  int32_t vocab_size() const override { return static_cast<int32_t>(tokens_.size()); }
  std::optional<int32_t> bos_id() const override { return bos_id_; }
  std::optional<int32_t> eos_id() const override { return eos_id_; }
  const std::vector<int32_t>& end_ids() const override { return end_ids_; }
  std::optional<int32_t> FindToken(std::string_view text) const override;

 private:
  struct Scratch {
    PieceBuffer pieces;
    BpeScratch bpe;
    std::vector<TextSegment> outer, inner;
  };

  explicit BpeTokenizer(BpeModel model) : model_(std::move(model)) {}
  bool IsValid(int32_t id) const { return id >= 0 && static_cast<size_t>(id) < tokens_.size(); }
  Status CheckIds(const BpeParts& parts) const;
  Status IndexAdded(std::vector<AddedToken> added);
  void CollectEndIds(const std::vector<int32_t>& more);
  Result<std::string> NormalText(std::string_view text) const;
  Status EncodeRaw(std::string_view text, bool match_special, Scratch& scratch,
                   std::vector<int32_t>& out) const;
  Status EncodeNormal(std::string_view text, bool match_special, Scratch& scratch,
                      std::vector<int32_t>& out) const;

  std::vector<BpeParts::Token> tokens_;
  BpeModel model_;
  AddedTokenMatcher raw_added_, normal_added_;
  std::unordered_map<std::string, int32_t> added_ids_;
  std::vector<NormalForm> normal_forms_;
  Pretokenizer pretokenizer_;
  std::vector<int32_t> prefix_ids_, suffix_ids_, end_ids_;
  std::optional<int32_t> bos_id_, eos_id_;
};

Result<std::unique_ptr<Tokenizer>> BpeTokenizer::Make(BpeParts parts) {
  auto model = BpeModel::Make(std::move(parts.words), parts.merges, parts.options);
  if (!model.ok()) return model.status();
  std::unique_ptr<BpeTokenizer> made(new BpeTokenizer(std::move(*model)));
  made->tokens_ = std::move(parts.tokens);
  if (Status s = made->CheckIds(parts); !s.ok()) return s;
  made->normal_forms_ = std::move(parts.normal_forms);
  made->pretokenizer_ = std::move(parts.pretokenizer);
  made->prefix_ids_ = std::move(parts.prefix_ids);
  made->suffix_ids_ = std::move(parts.suffix_ids);
  made->bos_id_ = parts.bos_id;
  made->eos_id_ = parts.eos_id;
  if (Status s = made->IndexAdded(std::move(parts.added)); !s.ok()) return s;
  made->CollectEndIds(parts.more_end_ids);
  return std::unique_ptr<Tokenizer>(std::move(made));
}

Status BpeTokenizer::CheckIds(const BpeParts& parts) const {
  const auto check = [&](std::string_view what, int32_t id) {
    return IsValid(id) ? Status::Ok()
                       : Error(Code::kDataCorrupt, "{} {} is outside of the vocabulary of {}", what,
                               id, tokens_.size());
  };
  Status status;
  const auto all = [&](std::string_view what, const auto& ids) {
    for (const int32_t id : ids)
      if (status.ok()) status = check(what, id);
  };
  for (const AddedToken& token : parts.added)
    if (status.ok()) status = check("added token", token.id);
  all("special token", parts.prefix_ids);
  all("special token", parts.suffix_ids);
  all("end token", parts.more_end_ids);
  if (status.ok() && parts.bos_id) status = check("bos token", *parts.bos_id);
  if (status.ok() && parts.eos_id) status = check("eos token", *parts.eos_id);
  if (status.ok() && parts.options.unknown_id)
    status = check("unknown token", *parts.options.unknown_id);
  return status;
}

Status BpeTokenizer::IndexAdded(std::vector<AddedToken> added) {
  std::vector<AddedToken> raw, normal;
  for (AddedToken& token : added) {
    added_ids_[token.content] = token.id;
    if (!token.normalized) {
      raw.push_back(std::move(token));
      continue;
    }
    auto content = NormalText(token.content);
    if (!content.ok()) return content.status();
    token.content = std::move(*content);
    normal.push_back(std::move(token));
  }
  auto raw_matcher = AddedTokenMatcher::Make(std::move(raw));
  if (!raw_matcher.ok()) return raw_matcher.status();
  auto normal_matcher = AddedTokenMatcher::Make(std::move(normal));
  if (!normal_matcher.ok()) return normal_matcher.status();
  raw_added_ = std::move(*raw_matcher);
  normal_added_ = std::move(*normal_matcher);
  return Status::Ok();
}

void BpeTokenizer::CollectEndIds(const std::vector<int32_t>& more) {
  const auto add = [&](int32_t id) {
    if (std::find(end_ids_.begin(), end_ids_.end(), id) == end_ids_.end()) end_ids_.push_back(id);
  };
  const auto add_named = [&](std::string_view name) {
    const auto found = added_ids_.find(std::string(name));
    if (found != added_ids_.end() && IsSpecial(found->second)) add(found->second);
  };
  if (eos_id_) add(*eos_id_);
  for (const int32_t id : more) add(id);
  for (const std::string_view name : kEndNames) add_named(name);
  if (!added_ids_.contains(std::string(kHarmonyReturn))) add_named(kPhiEnd);
}

Result<std::string> BpeTokenizer::NormalText(std::string_view text) const {
  std::string out(text);
  for (const NormalForm form : normal_forms_) {
    auto next = Normalize(out, form);
    if (!next.ok()) return next.status();
    out = std::move(*next);
  }
  return out;
}

Result<std::vector<int32_t>> BpeTokenizer::Encode(std::string_view text,
                                                  const EncodeOptions& options) const {
  if (text.size() > kMaxTextBytes)
    return Error(Code::kTooLarge, "a text of {} bytes; at most {} can be tokenized at once",
                 text.size(), kMaxTextBytes);
  if (!json::IsValidUtf8(text)) return Error(Code::kInvalidArgument, "the text is not valid UTF-8");
  std::vector<int32_t> ids;
  ids.reserve(text.size() / 4 + prefix_ids_.size() + suffix_ids_.size());
  if (options.add_special_tokens) ids = prefix_ids_;
  Scratch scratch;
  if (Status s = EncodeRaw(text, options.parse_special, scratch, ids); !s.ok()) return s;
  if (options.add_special_tokens) ids.insert(ids.end(), suffix_ids_.begin(), suffix_ids_.end());
  return ids;
}

Status BpeTokenizer::EncodeRaw(std::string_view text, bool match_special, Scratch& scratch,
                               std::vector<int32_t>& out) const {
  scratch.outer.clear();
  raw_added_.Split(text, match_special, scratch.outer);
  for (const TextSegment& segment : scratch.outer) {
    if (segment.id >= 0) {
      out.push_back(segment.id);
      continue;
    }
    const std::string_view part =
        text.substr(segment.span.begin, segment.span.end - segment.span.begin);
    Status status;
    const bool normal =
        std::all_of(normal_forms_.begin(), normal_forms_.end(),
                    [&](NormalForm form) { return IsSurelyNormal(part, form); });
    if (normal) {
      status = EncodeNormal(part, match_special, scratch, out);
    } else {
      const auto normalized = NormalText(part);
      status = normalized.ok() ? EncodeNormal(*normalized, match_special, scratch, out)
                               : normalized.status();
    }
    if (!status.ok()) return status;
  }
  return Status::Ok();
}

Status BpeTokenizer::EncodeNormal(std::string_view text, bool match_special, Scratch& scratch,
                                  std::vector<int32_t>& out) const {
  scratch.inner.clear();
  normal_added_.Split(text, match_special, scratch.inner);
  for (const TextSegment& segment : scratch.inner) {
    if (segment.id >= 0) {
      out.push_back(segment.id);
      continue;
    }
    PieceBuffer& buffer = scratch.pieces;
    const std::string_view part =
        text.substr(segment.span.begin, segment.span.end - segment.span.begin);
    if (Status s = pretokenizer_.Split(part, buffer); !s.ok()) return s;
    for (const Span piece : buffer.pieces)
      model_.Encode(buffer.text.substr(piece.begin, piece.end - piece.begin), scratch.bpe, out);
  }
  return Status::Ok();
}

std::optional<int32_t> BpeTokenizer::FindToken(std::string_view text) const {
  const auto found = added_ids_.find(std::string(text));
  if (found != added_ids_.end()) return found->second;
  const auto bytes = FromAlphabet(text);
  return bytes ? model_.Find(*bytes) : std::nullopt;
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> MakeTokenizer(BpeParts parts) {
  return BpeTokenizer::Make(std::move(parts));
}

}  // namespace baton::tokenizer
