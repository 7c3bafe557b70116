// Reads Hugging Face `tokenizer.json` (models of type BPE that are byte-level) and what its sibling
// tokenizer_config.json adds: names of bos and eos, add_bos_token / add_eos_token, further tokens.
//
// Precedence follows transformers 5: add_bos_token or add_eos_token in the config replace what the
// post_processor would add; tokens of the config's added_tokens_decoder are added when new.
// Truncation, padding and dropout play no part in inference and are not read (dropout: refused).
#include <filesystem>
#include <unordered_map>

#include "common/json.h"
#include "common/mapped_file.h"
#include "tokenizer/bpe_tokenizer.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/tokenizer_json_parts.h"

namespace baton::tokenizer {
namespace {

class Loader {
 public:
  Result<std::unique_ptr<Tokenizer>> Load(const json::object& root, const json::object* config);

 private:
  Status ReadModel(const json::object& model);
  Status CheckModelOptions(const json::object& model);
  Status ReadVocab(const json::object& model);
  Status ReadMerges(const json::object& model);
  Status AddMerge(std::string_view left, std::string_view right, size_t rank);
  Status ReadUnknown(const json::object& model);
  Status ReadAddedTokens(const json::object& root);
  Status ReadAddedToken(const json::object& node, const json::value* id, const std::string& path);
  Status ReadConfig(const json::object& config);
  Status ReadConfigTokens(const json::object& config);
  Result<std::optional<int32_t>> NamedToken(const json::object& config, std::string_view key);
  std::optional<int32_t> FindId(std::string_view content) const;
  void SetToken(int32_t id, std::string bytes, bool special);

  BpeParts parts_;
  std::unordered_map<std::string, int32_t> vocab_;  // texts as in the file
  std::unordered_map<std::string, int32_t> added_;
};

void Loader::SetToken(int32_t id, std::string bytes, bool special) {
  const auto index = static_cast<size_t>(id);
  if (index >= parts_.tokens.size()) parts_.tokens.resize(index + 1);
  parts_.tokens[index] = {std::move(bytes), special};
}

std::optional<int32_t> Loader::FindId(std::string_view content) const {
  const std::string key(content);
  if (const auto found = added_.find(key); found != added_.end()) return found->second;
  if (const auto found = vocab_.find(key); found != vocab_.end()) return found->second;
  return std::nullopt;
}

Status Loader::CheckModelOptions(const json::object& model) {
  if (const json::value* type = json::Find(model, "type")) {
    const json::string* name = type->if_string();
    if (!name || *name != "BPE")
      return Error(Code::kUnsupported, "model.type: {}; only BPE can be read",
                   name ? std::string(*name) : std::string(json::KindName(*type)));
  }
  auto fallback = BoolOr(model, "byte_fallback", false, "model");
  if (!fallback.ok()) return fallback.status();
  if (*fallback)
    return Error(Code::kUnsupported,
                 "model.byte_fallback: a SentencePiece-style model, not byte-level BPE; use its "
                 "GGUF file or a byte-level model");
  for (const std::string_view key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const json::value* affix = json::Find(model, key);
    if (affix && !(affix->is_string() && affix->get_string().empty()))
      return Error(Code::kUnsupported, "model.{}: byte-level BPE models have none", key);
  }
  const json::value* dropout = json::Find(model, "dropout");
  if (dropout && !(dropout->is_double() && dropout->get_double() == 0.0))
    return Error(Code::kUnsupported, "model.dropout: tokenizing at random is for training only");
  return Status::Ok();
}

Status Loader::ReadVocab(const json::object& model) {
  const json::value* member = json::Find(model, "vocab");
  const json::object* vocab = member ? member->if_object() : nullptr;
  if (!vocab) return Error(Code::kDataCorrupt, "model.vocab: an object expected");
  vocab_.reserve(vocab->size());
  std::vector<bool> taken;
  for (const auto& [key, value] : *vocab) {
    const std::string text(key);
    auto id = RequireId(value, fmt::format("model.vocab[\"{}\"]", text));
    if (!id.ok()) return id.status();
    const auto index = static_cast<size_t>(*id);
    if (index >= taken.size()) taken.resize(index + 1);
    if (taken[index])
      return Error(Code::kDataCorrupt, "model.vocab[\"{}\"]: id {} is taken", text, *id);
    taken[index] = true;
    vocab_.emplace(text, *id);
    auto bytes = FromAlphabet(text);
    SetToken(*id, bytes ? *bytes : text, false);
    // A text outside of the byte alphabet (a control token's, say) can't come out of merges.
    if (bytes && !bytes->empty()) parts_.words.push_back({std::move(*bytes), *id});
  }
  return Status::Ok();
}

Status Loader::AddMerge(std::string_view left, std::string_view right, size_t rank) {
  auto left_bytes = FromAlphabet(left), right_bytes = FromAlphabet(right);
  if (!left_bytes || !right_bytes)
    return Error(Code::kDataCorrupt, "model.merges[{}]: \"{} {}\" is not in the byte alphabet",
                 rank, left, right);
  parts_.merges.emplace_back(std::move(*left_bytes), std::move(*right_bytes));
  return Status::Ok();
}

Status Loader::ReadMerges(const json::object& model) {
  const json::value* member = json::Find(model, "merges");
  const json::array* merges = member ? member->if_array() : nullptr;
  if (!merges) return Error(Code::kDataCorrupt, "model.merges: an array expected");
  parts_.merges.reserve(merges->size());
  for (size_t rank = 0; rank < merges->size(); ++rank) {
    const json::value& merge = (*merges)[rank];
    Status status = Error(Code::kDataCorrupt, "model.merges[{}]: two tokens expected", rank);
    if (const json::string* text = merge.if_string()) {
      const std::string_view both(*text);
      const size_t space = both.find(' ');
      if (space != std::string_view::npos)
        status = AddMerge(both.substr(0, space), both.substr(space + 1), rank);
    } else if (const json::array* pair = merge.if_array();
               pair && pair->size() == 2 && (*pair)[0].is_string() && (*pair)[1].is_string()) {
      status = AddMerge((*pair)[0].get_string(), (*pair)[1].get_string(), rank);
    }
    if (!status.ok()) return status;
  }
  return Status::Ok();
}

Status Loader::ReadUnknown(const json::object& model) {
  if (!json::Find(model, "unk_token")) return Status::Ok();
  auto name = RequireString(model, "unk_token", "model");
  if (!name.ok()) return name.status();
  parts_.options.unknown_id = FindId(*name);
  if (!parts_.options.unknown_id)
    return Error(Code::kDataCorrupt, "model.unk_token: \"{}\" is not in the vocabulary", *name);
  return Status::Ok();
}

Status Loader::ReadModel(const json::object& model) {
  if (Status s = CheckModelOptions(model); !s.ok()) return s;
  auto ignore_merges = BoolOr(model, "ignore_merges", false, "model");
  if (!ignore_merges.ok()) return ignore_merges.status();
  auto fuse_unknown = BoolOr(model, "fuse_unk", false, "model");
  if (!fuse_unknown.ok()) return fuse_unknown.status();
  parts_.options.ignore_merges = *ignore_merges;
  parts_.options.fuse_unknown = *fuse_unknown;
  if (Status s = ReadVocab(model); !s.ok()) return s;
  return ReadMerges(model);
}

// `id` may be null: then the content must be in the vocabulary.
Status Loader::ReadAddedToken(const json::object& node, const json::value* id,
                              const std::string& path) {
  AddedToken token;
  auto content = RequireString(node, "content", path);
  if (!content.ok()) return content.status();
  token.content = std::move(*content);
  if (added_.contains(token.content)) return Status::Ok();
  const struct {
    std::string_view key;
    bool* flag;
  } flags[] = {{"special", &token.special}, {"lstrip", &token.lstrip}, {"rstrip", &token.rstrip},
               {"single_word", &token.single_word}, {"normalized", &token.normalized}};
  for (const auto& [key, flag] : flags) {
    auto value = BoolOr(node, key, key == "normalized" && !token.special, path);
    if (!value.ok()) return value.status();
    *flag = *value;
  }
  // A content that the model's vocabulary has keeps the id that it has there.
  if (const auto known = vocab_.find(token.content); known != vocab_.end()) {
    token.id = known->second;
  } else {
    auto given = id ? RequireId(*id, path + ".id")
                    : Result<int32_t>(Error(Code::kDataCorrupt, "{}.id is missing", path));
    if (!given.ok()) return given.status();
    token.id = *given;
    if (static_cast<size_t>(token.id) < parts_.tokens.size() &&
        !parts_.tokens[static_cast<size_t>(token.id)].bytes.empty())
      return Error(Code::kDataCorrupt, "{}: id {} of \"{}\" is taken", path, token.id,
                   token.content);
  }
  // As Hugging Face decodes it: through the byte alphabet when all of it is in there.
  auto bytes = FromAlphabet(token.content);
  SetToken(token.id, bytes ? std::move(*bytes) : token.content, token.special);
  added_.emplace(token.content, token.id);
  parts_.added.push_back(std::move(token));
  return Status::Ok();
}

Status Loader::ReadAddedTokens(const json::object& root) {
  const json::value* member = json::Find(root, "added_tokens");
  if (!member) return Status::Ok();
  const json::array* tokens = member->if_array();
  if (!tokens) return Error(Code::kDataCorrupt, "added_tokens: an array expected");
  for (size_t i = 0; i < tokens->size(); ++i) {
    const std::string path = fmt::format("added_tokens[{}]", i);
    auto node = RequireObject((*tokens)[i], path);
    if (!node.ok()) return node.status();
    if (Status s = ReadAddedToken(**node, json::Find(**node, "id"), path); !s.ok()) return s;
  }
  return Status::Ok();
}

Status Loader::ReadConfigTokens(const json::object& config) {
  const json::value* member = json::Find(config, "added_tokens_decoder");
  if (!member) return Status::Ok();
  auto tokens = RequireObject(*member, "tokenizer_config.json: added_tokens_decoder");
  if (!tokens.ok()) return tokens.status();
  for (const auto& [key, value] : **tokens) {
    const std::string path =
        fmt::format("tokenizer_config.json: added_tokens_decoder[\"{}\"]", std::string_view(key));
    auto node = RequireObject(value, path);
    if (!node.ok()) return node.status();
    auto id = json::Parse(key);  // the key is the id in decimal
    if (!id.ok()) return Error(Code::kDataCorrupt, "{}: the key is not an id", path);
    if (Status s = ReadAddedToken(**node, &*id, path); !s.ok()) return s;
  }
  return Status::Ok();
}

// "eos_token": "</s>" or {"content": "</s>", ...}; absent: none.
Result<std::optional<int32_t>> Loader::NamedToken(const json::object& config,
                                                  std::string_view key) {
  const json::value* value = json::Find(config, key);
  if (!value) return std::optional<int32_t>();
  const std::string path = fmt::format("tokenizer_config.json: {}", key);
  std::string content;
  if (value->is_string()) {
    content = std::string(value->get_string());
  } else {
    auto node = RequireObject(*value, path);
    if (!node.ok()) return node.status();
    auto text = RequireString(**node, "content", path);
    if (!text.ok()) return text.status();
    content = std::move(*text);
  }
  const auto id = FindId(content);
  if (!id) return Error(Code::kDataCorrupt, "{}: \"{}\" is not in the vocabulary", path, content);
  return id;
}

Status Loader::ReadConfig(const json::object& config) {
  if (Status s = ReadConfigTokens(config); !s.ok()) return s;
  auto bos = NamedToken(config, "bos_token"), eos = NamedToken(config, "eos_token");
  if (!bos.ok()) return bos.status();
  if (!eos.ok()) return eos.status();
  parts_.bos_id = *bos;
  parts_.eos_id = *eos;
  if (!json::Find(config, "add_bos_token") && !json::Find(config, "add_eos_token"))
    return Status::Ok();
  auto add_bos = BoolOr(config, "add_bos_token", false, "tokenizer_config.json");
  auto add_eos = BoolOr(config, "add_eos_token", false, "tokenizer_config.json");
  if (!add_bos.ok()) return add_bos.status();
  if (!add_eos.ok()) return add_eos.status();
  parts_.prefix_ids.clear();
  parts_.suffix_ids.clear();
  if (*add_bos && *bos) parts_.prefix_ids.push_back(**bos);
  if (*add_eos && *eos) parts_.suffix_ids.push_back(**eos);
  return Status::Ok();
}

Result<std::unique_ptr<Tokenizer>> Loader::Load(const json::object& root,
                                                const json::object* config) {
  const json::value* member = json::Find(root, "model");
  if (!member) return Error(Code::kDataCorrupt, "model is missing");
  auto model = RequireObject(*member, "model");
  if (!model.ok()) return model.status();
  // The cheap parts first, so that a model of another kind is refused for what it is.
  auto pretokenizer = ReadPretokenizer(json::Find(root, "pre_tokenizer"));
  auto normal_forms = ReadNormalizer(json::Find(root, "normalizer"));
  auto around = ReadPostProcessor(json::Find(root, "post_processor"));
  for (const Status& s :
       {CheckModelOptions(**model), pretokenizer.status(), normal_forms.status(), around.status(),
        CheckDecoder(json::Find(root, "decoder")), ReadModel(**model), ReadAddedTokens(root),
        ReadUnknown(**model)})
    if (!s.ok()) return s;
  parts_.pretokenizer = std::move(*pretokenizer);
  parts_.normal_forms = std::move(*normal_forms);
  parts_.prefix_ids = std::move(around->prefix_ids);
  parts_.suffix_ids = std::move(around->suffix_ids);
  if (!parts_.prefix_ids.empty()) parts_.bos_id = parts_.prefix_ids.front();
  if (config) {
    if (Status s = ReadConfig(*config); !s.ok()) return s;
  }
  return MakeTokenizer(std::move(parts_));
}

Result<std::string> ReadWhole(const std::string& path) {
  auto file = MappedFile::Open(path);
  if (!file.ok()) return file.status();
  const auto bytes = file->bytes();
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> ParseTokenizerJson(std::string_view json,
                                                      std::string_view config_json) {
  auto root = json::Parse(json);
  if (!root.ok()) return root.status();
  auto object = RequireObject(*root, "the file");
  if (!object.ok()) return object.status();
  if (config_json.empty()) return Loader().Load(**object, nullptr);
  auto config = json::Parse(config_json);
  if (!config.ok()) return config.status().Prefixed("tokenizer_config.json");
  auto config_object = RequireObject(*config, "tokenizer_config.json");
  if (!config_object.ok()) return config_object.status();
  return Loader().Load(**object, *config_object);
}

Result<std::unique_ptr<Tokenizer>> LoadTokenizerJson(const std::string& path) {
  auto text = ReadWhole(path);
  if (!text.ok()) return text.status();
  const std::string sibling =
      (std::filesystem::path(path).parent_path() / "tokenizer_config.json").string();
  std::string config;
  if (auto found = ReadWhole(sibling); found.ok()) {
    config = std::move(*found);
  } else if (found.status().code() != Code::kNotFound) {
    return found.status();
  }
  auto made = ParseTokenizerJson(*text, config);
  if (!made.ok()) return made.status().Prefixed(path);
  return made;
}

}  // namespace baton::tokenizer
