// From files to a model: LoadConfig and LoadModel.
#include <algorithm>
#include <filesystem>
#include <limits>

#include "model/llama.h"
#include "model/model.h"

namespace baton::model {
namespace {

namespace fs = std::filesystem;

Result<json::object> ReadJsonObject(const std::string& path) {
  const auto mapped = MappedFile::Open(path);
  if (!mapped.ok()) return mapped.status();
  const auto bytes = mapped->bytes();
  auto parsed = json::Parse({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  if (!parsed.ok()) return parsed.status().Prefixed(path);
  if (!parsed->is_object()) return Error(Code::kInvalidArgument, "{} holds no JSON object", path);
  return std::move(parsed->as_object());
}

// generation_config.json may name more ids that end a text (Llama 3: end of turn, of message).
Status AddGenerationEosIds(const std::string& folder, ModelConfig* config) {
  const std::string path = (fs::path(folder) / "generation_config.json").string();
  std::error_code error;
  if (!fs::exists(path, error)) return Status::Ok();
  const auto object = ReadJsonObject(path);
  if (!object.ok()) return object.status();
  const json::value* eos = json::Find(*object, "eos_token_id");
  if (!eos) return Status::Ok();
  const json::array ids = eos->is_array() ? eos->as_array() : json::array{*eos};
  for (const json::value& id : ids) {
    const int64_t* i = id.if_int64();
    if (!i || *i < 0 || *i >= config->vocab) {
      return Error(Code::kInvalidArgument, "{}: eos_token_id holds {}, not an id below {}", path,
                   json::serialize(id), config->vocab);
    }
    const auto token = static_cast<int32_t>(*i);
    auto& known = config->eos_ids;
    if (std::find(known.begin(), known.end(), token) == known.end()) known.push_back(token);
  }
  return Status::Ok();
}

Result<ModelConfig> HfConfig(const ModelFiles& files) {
  const auto object = ReadJsonObject((fs::path(files.path) / "config.json").string());
  if (!object.ok()) return object.status();
  auto config = ConfigFromHf(*object);
  if (!config.ok()) return config.status().Prefixed(files.path);
  if (Status status = AddGenerationEosIds(files.folder, &*config); !status.ok()) return status;
  return config;
}

Result<std::unique_ptr<Model>> Build(const ModelConfig& config, Result<WeightView> weights,
                                     kernels::Ops& ops, const LoadOptions& options) {
  if (!weights.ok()) return weights.status();
  return MakeLlama(config, std::move(*weights), ops, options);
}

Result<std::unique_ptr<Model>> LoadGguf(const ModelFiles& files, kernels::Ops& ops,
                                        const LoadOptions& options) {
  auto file = GgufFile::Open(files.path);
  if (!file.ok()) return file.status();
  const auto config = ConfigFromGguf(*file);
  if (!config.ok()) return config.status();
  return Build(*config,
               options.dummy_weights ? WeightView::MakeDummy(*config)
                                     : WeightView::FromGguf(std::move(*file), *config),
               ops, options);
}

Result<std::unique_ptr<Model>> LoadSafetensors(const ModelFiles& files, kernels::Ops& ops,
                                               const LoadOptions& options) {
  const auto config = HfConfig(files);
  if (!config.ok()) return config.status();
  if (options.dummy_weights) return Build(*config, WeightView::MakeDummy(*config), ops, options);
  auto tensors = SafetensorsFiles::Open(files.path);
  if (!tensors.ok()) return tensors.status();
  return Build(*config, WeightView::FromSafetensors(std::move(*tensors), *config), ops, options);
}

Status Locate(Status status, const ModelFiles& files) {
  return status.message().find(files.path) == std::string::npos ? status.Prefixed(files.path)
                                                                : status;
}

}  // namespace

Result<ModelConfig> LoadConfig(const ModelFiles& files) {
  if (files.format == ModelFormat::kSafetensors) return HfConfig(files);
  const auto file = GgufFile::Open(files.path);
  if (!file.ok()) return file.status();
  auto config = ConfigFromGguf(*file);
  if (!config.ok()) return Locate(config.status(), files);
  return config;
}

Result<std::unique_ptr<Model>> LoadModel(const ModelFiles& files, kernels::Ops& ops,
                                         const LoadOptions& options) {
  auto model = files.format == ModelFormat::kGguf ? LoadGguf(files, ops, options)
                                                  : LoadSafetensors(files, ops, options);
  if (!model.ok()) return Locate(model.status(), files);
  return model;
}

}  // namespace baton::model
