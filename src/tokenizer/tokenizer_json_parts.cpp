#include "tokenizer/tokenizer_json_parts.h"

#include <limits>
#include <optional>

namespace baton::tokenizer {
namespace {

// Ids come out of a file: the largest real vocabularies have 2^18 words.
constexpr int64_t kMaxTokenId = 1 << 21;

Status Wrong(std::string_view path, std::string_view key, std::string_view wanted,
             const json::value* found) {
  return Error(Code::kDataCorrupt, "{}.{}: {} expected, {} found", path, key, wanted,
               found ? json::KindName(*found) : "nothing");
}

Result<const json::array*> RequireArray(const json::object& from, std::string_view key,
                                        std::string_view path) {
  const json::value* found = json::Find(from, key);
  if (!found || !found->is_array()) return Wrong(path, key, "an array", found);
  return &found->get_array();
}

// Calls `each(member, its path)` for the members of a "Sequence" until one fails.
template <typename Each>
Status ForSequence(const json::object& sequence, std::string_view key, const std::string& path,
                   Each each) {
  auto members = RequireArray(sequence, key, path);
  if (!members.ok()) return members.status();
  for (size_t i = 0; i < (*members)->size(); ++i) {
    const std::string member_path = fmt::format("{}.{}[{}]", path, key, i);
    auto member = RequireObject((**members)[i], member_path);
    if (!member.ok()) return member.status();
    if (Status s = each(**member, member_path); !s.ok()) return s;
  }
  return Status::Ok();
}

Status AddNormalizer(const json::object& node, const std::string& path,
                     std::vector<NormalForm>& out) {
  auto type = RequireString(node, "type", path);
  if (!type.ok()) return type.status();
  if (*type == "Sequence") {
    return ForSequence(node, "normalizers", path,
                       [&](const json::object& member, const std::string& member_path) {
                         return AddNormalizer(member, member_path, out);
                       });
  }
  if (*type == "NFC") {
    out.push_back(NormalForm::kNfc);
  } else if (*type == "NFD") {
    out.push_back(NormalForm::kNfd);
  } else if (*type == "NFKC") {
    out.push_back(NormalForm::kNfkc);
  } else if (*type == "NFKD") {
    out.push_back(NormalForm::kNfkd);
  } else {
    return Error(Code::kUnsupported, "{}: normalizer {} (NFC, NFD, NFKC and NFKD are known)", path,
                 *type);
  }
  return Status::Ok();
}

std::optional<SplitBehavior> ParseBehavior(std::string_view name) {
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  return std::nullopt;
}

// Collects the steps of a pre_tokenizer tree.
class StepReader {
 public:
  Status Read(const json::object& node, const std::string& path) {
    auto type = RequireString(node, "type", path);
    if (!type.ok()) return type.status();
    if (*type == "Sequence") {
      return ForSequence(node, "pretokenizers", path,
                         [&](const json::object& member, const std::string& member_path) {
                           return Read(member, member_path);
                         });
    }
    if (*type == "ByteLevel") return ReadByteLevel(node, path);
    if (byte_level_ && !mapped_) {  // it sees what ByteLevel wrote, not the text
      steps_.push_back(Step(PretokenizeStep::Kind::kToAlphabet));
      mapped_ = true;
    }
    if (*type == "Split") return ReadSplit(node, path);
    if (*type == "Digits") return ReadDigits(node, path);
    if (*type == "Punctuation") return ReadPunctuation(node, path);
    if (*type == "Whitespace")
      return AddPattern(R"(\w+|[^\w\s]+)", SplitBehavior::kRemoved, true, path);
    if (*type == "WhitespaceSplit") return AddPattern(R"(\s)", SplitBehavior::kRemoved, false, path);
    return Error(Code::kUnsupported,
                 "{}: pre-tokenizer {}; only byte-level BPE models can be read (ByteLevel, Split, "
                 "Digits, Punctuation, Whitespace, Sequence)",
                 path, *type);
  }

  bool byte_level() const { return byte_level_; }
  std::vector<PretokenizeStep> TakeSteps() { return std::move(steps_); }

 private:
  static PretokenizeStep Step(PretokenizeStep::Kind kind) {
    PretokenizeStep step;
    step.kind = kind;
    return step;
  }

  Status Add(Result<Regex> regex, SplitBehavior behavior, bool invert, const std::string& path) {
    if (!regex.ok()) return regex.status().Prefixed(path);
    PretokenizeStep step;
    step.regex = std::move(*regex);
    step.behavior = behavior;
    step.invert = invert;
    steps_.push_back(std::move(step));
    return Status::Ok();
  }
  Status AddPattern(std::string_view pattern, SplitBehavior behavior, bool invert,
                    const std::string& path) {
    return Add(Regex::Compile(pattern), behavior, invert, path);
  }

  Status ReadByteLevel(const json::object& node, const std::string& path) {
    if (byte_level_) return Error(Code::kUnsupported, "{}: a second ByteLevel", path);
    byte_level_ = true;
    auto prefix = BoolOr(node, "add_prefix_space", true, path);
    if (!prefix.ok()) return prefix.status();
    auto use_regex = BoolOr(node, "use_regex", true, path);
    if (!use_regex.ok()) return use_regex.status();
    if (*prefix) steps_.push_back(Step(PretokenizeStep::Kind::kPrefixSpace));
    return *use_regex ? AddPattern(kGpt2Pattern, SplitBehavior::kIsolated, false, path)
                      : Status::Ok();
  }

  Status ReadSplit(const json::object& node, const std::string& path) {
    auto name = RequireString(node, "behavior", path);
    if (!name.ok()) return name.status();
    const auto behavior = ParseBehavior(*name);
    if (!behavior) return Error(Code::kDataCorrupt, "{}.behavior: unknown \"{}\"", path, *name);
    auto invert = BoolOr(node, "invert", false, path);
    if (!invert.ok()) return invert.status();
    const json::value* pattern = json::Find(node, "pattern");
    const json::object* kinds = pattern ? pattern->if_object() : nullptr;
    if (!kinds) return Wrong(path, "pattern", "an object with Regex or String", pattern);
    const bool literal = json::Find(*kinds, "String") != nullptr;
    auto text = RequireString(*kinds, literal ? "String" : "Regex", path + ".pattern");
    if (!text.ok()) return text.status();
    if (text->empty()) return Error(Code::kDataCorrupt, "{}.pattern is empty", path);
    return Add(literal ? Regex::CompileLiteral(*text) : Regex::Compile(*text), *behavior, *invert,
               path);
  }

  Status ReadDigits(const json::object& node, const std::string& path) {
    auto individual = BoolOr(node, "individual_digits", false, path);
    if (!individual.ok()) return individual.status();
    const std::string one(kNumberPattern);
    return AddPattern(*individual ? one : one + '+', SplitBehavior::kIsolated, false, path);
  }

  Status ReadPunctuation(const json::object& node, const std::string& path) {
    SplitBehavior behavior = SplitBehavior::kIsolated;
    if (json::Find(node, "behavior")) {
      auto name = RequireString(node, "behavior", path);
      if (!name.ok()) return name.status();
      const auto parsed = ParseBehavior(*name);
      if (!parsed) return Error(Code::kDataCorrupt, "{}.behavior: unknown \"{}\"", path, *name);
      behavior = *parsed;
    }
    // HF's own table of marks ends with Unicode 8: some 140 rare newer ones differ from \p{P}.
    return AddPattern(R"([\p{P}$+<=>^`|~])", behavior, false, path);
  }

  std::vector<PretokenizeStep> steps_;
  bool byte_level_ = false, mapped_ = false;
};

Status AddSpecial(const json::object& special_tokens, std::string_view name,
                  const std::string& path, std::vector<int32_t>& out) {
  const json::value* entry = json::Find(special_tokens, name);
  const json::object* token = entry ? entry->if_object() : nullptr;
  if (!token) return Error(Code::kDataCorrupt, "{}.special_tokens: no \"{}\"", path, name);
  auto ids = RequireArray(*token, "ids", path + ".special_tokens");
  if (!ids.ok()) return ids.status();
  for (const json::value& value : **ids) {
    auto id = RequireId(value, path + ".special_tokens");
    if (!id.ok()) return id.status();
    out.push_back(*id);
  }
  return Status::Ok();
}

Status ReadTemplate(const json::object& node, const std::string& path, Surroundings& out) {
  const json::value* tokens = json::Find(node, "special_tokens");
  const json::object empty;
  const json::object* special_tokens = tokens ? tokens->if_object() : &empty;
  if (!special_tokens) return Wrong(path, "special_tokens", "an object", tokens);
  bool behind_text = false;
  const Status status = ForSequence(
      node, "single", path, [&](const json::object& piece, const std::string& piece_path) {
        if (json::Find(piece, "Sequence")) {
          if (behind_text)
            return Error(Code::kUnsupported, "{}: the text appears twice", piece_path);
          behind_text = true;
          return Status::Ok();
        }
        const json::value* special = json::Find(piece, "SpecialToken");
        const json::object* named = special ? special->if_object() : nullptr;
        if (!named) return Wrong(piece_path, "SpecialToken", "an object", special);
        auto name = RequireString(*named, "id", piece_path);
        if (!name.ok()) return name.status();
        return AddSpecial(*special_tokens, *name, path,
                          behind_text ? out.suffix_ids : out.prefix_ids);
      });
  if (!status.ok()) return status;
  return behind_text ? Status::Ok()
                     : Error(Code::kUnsupported, "{}.single: the text itself is missing", path);
}

// RobertaProcessing and BertProcessing: "cls" and "sep" are [content, id].
Status ReadClassifier(const json::object& node, const std::string& path, Surroundings& out) {
  for (const std::string_view key : {"cls", "sep"}) {
    auto pair = RequireArray(node, key, path);
    if (!pair.ok()) return pair.status();
    if ((*pair)->size() != 2)
      return Error(Code::kDataCorrupt, "{}.{}: a token and its id expected", path, key);
    auto id = RequireId((**pair)[1], fmt::format("{}.{}[1]", path, key));
    if (!id.ok()) return id.status();
    (key == "cls" ? out.prefix_ids : out.suffix_ids).push_back(*id);
  }
  return Status::Ok();
}

Status AddPostProcessor(const json::object& node, const std::string& path, Surroundings& out) {
  auto type = RequireString(node, "type", path);
  if (!type.ok()) return type.status();
  if (*type == "ByteLevel") return Status::Ok();  // trims offsets only
  if (*type == "Sequence") {
    return ForSequence(node, "processors", path,
                       [&](const json::object& member, const std::string& member_path) {
                         return AddPostProcessor(member, member_path, out);
                       });
  }
  Surroundings around;
  Status status;
  if (*type == "TemplateProcessing") {
    status = ReadTemplate(node, path, around);
  } else if (*type == "RobertaProcessing" || *type == "BertProcessing") {
    status = ReadClassifier(node, path, around);
  } else {
    return Error(Code::kUnsupported, "{}: post-processor {}", path, *type);
  }
  if (!status.ok()) return status;
  // A later processor wraps what the earlier ones made.
  out.prefix_ids.insert(out.prefix_ids.begin(), around.prefix_ids.begin(), around.prefix_ids.end());
  out.suffix_ids.insert(out.suffix_ids.end(), around.suffix_ids.begin(), around.suffix_ids.end());
  return Status::Ok();
}

}  // namespace

Result<bool> BoolOr(const json::object& from, std::string_view key, bool fallback,
                    std::string_view path) {
  const json::value* found = json::Find(from, key);
  if (!found) return fallback;
  if (!found->is_bool()) return Wrong(path, key, "a boolean", found);
  return found->get_bool();
}

Result<std::string> RequireString(const json::object& from, std::string_view key,
                                  std::string_view path) {
  const json::value* found = json::Find(from, key);
  if (!found || !found->is_string()) return Wrong(path, key, "a string", found);
  return std::string(found->get_string());
}

Result<int32_t> RequireId(const json::value& value, std::string_view path) {
  const int64_t* id = value.if_int64();
  if (!id || *id < 0 || *id > kMaxTokenId)
    return Error(Code::kDataCorrupt, "{}: a token id from 0 to {} expected, {} found", path,
                 kMaxTokenId, id ? std::to_string(*id) : std::string(json::KindName(value)));
  return static_cast<int32_t>(*id);
}

Result<const json::object*> RequireObject(const json::value& value, std::string_view path) {
  if (!value.is_object())
    return Error(Code::kDataCorrupt, "{}: an object expected, {} found", path,
                 json::KindName(value));
  return &value.get_object();
}

Result<std::vector<NormalForm>> ReadNormalizer(const json::value* value) {
  std::vector<NormalForm> out;
  if (!value) return out;
  auto node = RequireObject(*value, "normalizer");
  if (!node.ok()) return node.status();
  if (Status s = AddNormalizer(**node, "normalizer", out); !s.ok()) return s;
  return out;
}

Result<Pretokenizer> ReadPretokenizer(const json::value* value) {
  StepReader reader;
  if (value) {
    auto node = RequireObject(*value, "pre_tokenizer");
    if (!node.ok()) return node.status();
    if (Status s = reader.Read(**node, "pre_tokenizer"); !s.ok()) return s;
  }
  if (!reader.byte_level())
    return Error(Code::kUnsupported,
                 "pre_tokenizer: no ByteLevel in it; only byte-level BPE models can be read");
  return Pretokenizer(reader.TakeSteps());
}

Result<Surroundings> ReadPostProcessor(const json::value* value) {
  Surroundings out;
  if (!value) return out;
  auto node = RequireObject(*value, "post_processor");
  if (!node.ok()) return node.status();
  if (Status s = AddPostProcessor(**node, "post_processor", out); !s.ok()) return s;
  return out;
}

Status CheckDecoder(const json::value* value) {
  if (!value) return Status::Ok();
  auto node = RequireObject(*value, "decoder");
  if (!node.ok()) return node.status();
  auto type = RequireString(**node, "type", "decoder");
  if (!type.ok()) return type.status();
  if (*type == "ByteLevel") return Status::Ok();
  if (*type == "Sequence") {  // of ByteLevel alone
    return ForSequence(**node, "decoders", "decoder",
                       [](const json::object& member, const std::string& path) {
                         auto inner = RequireString(member, "type", path);
                         if (!inner.ok()) return inner.status();
                         return *inner == "ByteLevel"
                                    ? Status::Ok()
                                    : Error(Code::kUnsupported, "{}: decoder {}", path, *inner);
                       });
  }
  return Error(Code::kUnsupported, "decoder: {}; only ByteLevel can be read", *type);
}

}  // namespace baton::tokenizer
