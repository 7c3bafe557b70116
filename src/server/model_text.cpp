#include "server/model_text.h"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "api/fields.h"
#include "common/log.h"
#include "model/gguf.h"
#include "tokenizer/render_chat.h"

namespace baton::server {
namespace {

namespace fs = std::filesystem;

Result<std::string> ReadFile(const fs::path& path, size_t max_bytes) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return Error(Code::kNotFound, "cannot read {}", path.string());
  std::string text((std::istreambuf_iterator<char>(in)), {});
  if (text.size() > max_bytes) return Error(Code::kTooLarge, "{} is larger than {} bytes", path.string(), max_bytes);
  return text;
}

std::optional<int32_t> OptionalId(const model::GgufFile& gguf, std::string_view key) {
  const auto id = gguf.GetUint(key);
  return id.ok() ? std::optional<int32_t>(static_cast<int32_t>(*id)) : std::nullopt;
}

Result<std::unique_ptr<tokenizer::Tokenizer>> TokenizerOfGguf(const model::GgufFile& gguf) {
  auto kind = gguf.GetString("tokenizer.ggml.model");
  if (!kind.ok()) return kind.status();
  if (*kind != "gpt2") {
    return Error(Code::kUnsupported, "tokenizer.ggml.model \"{}\" is not supported: only byte-level BPE (\"gpt2\") is; "
                 "give --tokenizer-path a folder with tokenizer.json", *kind);
  }
  tokenizer::BpeSpec spec;
  auto tokens = gguf.GetStrings("tokenizer.ggml.tokens");
  if (!tokens.ok()) return tokens.status();
  spec.tokens = std::move(*tokens);
  auto merges = gguf.GetStrings("tokenizer.ggml.merges");
  if (!merges.ok()) return merges.status();
  spec.merges = std::move(*merges);
  if (gguf.Has("tokenizer.ggml.token_type")) {
    const auto kinds = gguf.GetInts("tokenizer.ggml.token_type");
    if (!kinds.ok()) return kinds.status();
    for (const int64_t k : *kinds) {
      if (k < 1 || k > 6) return Error(Code::kDataCorrupt, "tokenizer.ggml.token_type holds {}", k);
      spec.kinds.push_back(static_cast<tokenizer::TokenKind>(k));
    }
  }
  const auto pre = gguf.GetString("tokenizer.ggml.pre");
  spec.pre = pre.ok() ? *pre : "gpt-2";
  spec.bos_id = OptionalId(gguf, "tokenizer.ggml.bos_token_id");
  spec.eos_id = OptionalId(gguf, "tokenizer.ggml.eos_token_id");
  spec.unknown_id = OptionalId(gguf, "tokenizer.ggml.unknown_token_id");
  spec.pad_id = OptionalId(gguf, "tokenizer.ggml.padding_token_id");
  spec.eot_id = OptionalId(gguf, "tokenizer.ggml.eot_token_id");
  const auto add_bos = gguf.GetBool("tokenizer.ggml.add_bos_token");
  spec.add_bos = add_bos.ok() && *add_bos;
  const auto add_eos = gguf.GetBool("tokenizer.ggml.add_eos_token");
  spec.add_eos = add_eos.ok() && *add_eos;
  return tokenizer::MakeBpeTokenizer(std::move(spec));
}

// chat_template.jinja, or "chat_template" of tokenizer_config.json: a string, or a list of named
// templates of which "default" counts.
std::string TemplateOfFolder(const std::string& folder) {
  if (auto file = ReadFile(fs::path(folder) / "chat_template.jinja", 1 << 20); file.ok()) return *file;
  const auto text = ReadFile(fs::path(folder) / "tokenizer_config.json", 64 << 20);
  if (!text.ok()) return {};
  const auto config = json::Parse(*text);
  if (!config.ok() || !config->is_object()) return {};
  const json::value* found = json::Find(config->get_object(), "chat_template");
  if (!found) return {};
  if (found->is_string()) return std::string(found->get_string());
  if (!found->is_array()) return {};
  for (const json::value& entry : found->get_array()) {
    if (!entry.is_object()) continue;
    const json::value* name = json::Find(entry.get_object(), "name");
    const json::value* body = json::Find(entry.get_object(), "template");
    if (name && body && name->is_string() && body->is_string() && name->get_string() == "default") {
      return std::string(body->get_string());
    }
  }
  return {};
}

void ReadGenerationConfig(const std::string& folder, api::SamplingParams& out, std::vector<int32_t>& end_ids) {
  const auto text = ReadFile(fs::path(folder) / "generation_config.json", 1 << 20);
  if (!text.ok()) return;
  const auto config = json::Parse(*text);
  if (!config.ok() || !config->is_object()) {
    return log::warn("generation_config.json is not a JSON object: ignored");
  }
  api::FieldReader reader(config->get_object());
  api::SamplingParams read = out;
  reader.Float("temperature", read.temperature);
  reader.Float("top_p", read.top_p);
  reader.Integer("top_k", read.top_k);
  reader.Float("min_p", read.min_p);
  reader.Float("repetition_penalty", read.repetition_penalty);
  reader.TokenIds("eos_token_id", end_ids);
  if (!reader.status().ok()) return log::warn("generation_config.json is ignored: {}", reader.status().message());
  out = read;
}

void AddEndId(std::vector<int32_t>& ids, int32_t id) {
  if (std::find(ids.begin(), ids.end(), id) == ids.end()) ids.push_back(id);
}

std::string TextOf(const tokenizer::Tokenizer& tokenizer, std::optional<int32_t> id) {
  return id ? std::string(tokenizer.TokenBytes(*id)) : std::string();
}

}  // namespace

Result<ModelText> LoadModelText(const model::ModelFiles& files, const model::ModelConfig* config,
                                const ModelTextOptions& options) {
  ModelText out;
  if (config) out.end_ids = config->eos_ids;
  const bool separate = !options.tokenizer_path.empty();
  const fs::path given = separate ? fs::path(options.tokenizer_path) : fs::path(files.folder);
  std::optional<model::GgufFile> gguf;
  const bool from_gguf = separate ? given.extension() == ".gguf" : files.format == model::ModelFormat::kGguf;
  if (from_gguf) {
    auto opened = model::GgufFile::Open(separate ? given.string() : files.path);
    if (!opened.ok()) return opened.status();
    gguf = std::move(*opened);
  }
  const std::string folder = fs::is_regular_file(given) ? given.parent_path().string() : given.string();

  if (!options.skip_tokenizer) {
    const fs::path file = fs::is_regular_file(given) && !from_gguf ? given : fs::path(folder) / "tokenizer.json";
    auto made = gguf ? TokenizerOfGguf(*gguf) : tokenizer::LoadTokenizerJson(file.string());
    if (!made.ok()) {
      return made.status().Prefixed("tokenizer (start with --skip-tokenizer-init to serve token ids only)");
    }
    out.tokenizer = std::move(*made);
    for (const int32_t id : out.tokenizer->end_ids()) AddEndId(out.end_ids, id);
    out.bos_token = TextOf(*out.tokenizer, out.tokenizer->bos_id());
    out.eos_token = TextOf(*out.tokenizer, out.tokenizer->eos_id());
  }
  if (options.use_generation_config) {
    std::vector<int32_t> ids;
    ReadGenerationConfig(files.folder, out.sampling_defaults, ids);
    for (const int32_t id : ids) AddEndId(out.end_ids, id);
  }

  if (!options.chat_template.empty()) {
    auto source = tokenizer::IsTemplateText(options.chat_template) ? Result<std::string>(options.chat_template) : ReadFile(options.chat_template, 1 << 20);
    if (!source.ok()) return source.status().Prefixed("--chat-template");
    out.chat_template_source = std::move(*source);
  } else if (gguf && gguf->Has("tokenizer.chat_template")) {
    auto source = gguf->GetString("tokenizer.chat_template");
    if (!source.ok()) return source.status();
    out.chat_template_source = std::move(*source);
  } else {
    out.chat_template_source = TemplateOfFolder(folder);
  }
  if (!out.chat_template_source.empty()) {
    auto parsed = tokenizer::ChatTemplate::Parse(out.chat_template_source);
    if (!parsed.ok()) return parsed.status().Prefixed("chat template");
    out.chat_template = std::move(*parsed);
  }
  return out;
}

}  // namespace baton::server
