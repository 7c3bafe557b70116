// Finds a model on disk: a GGUF file, a folder, or a hub id ("org/name[@revision]") in the local
// hub cache (HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME, XDG_CACHE_HOME as huggingface_hub
// defines them). Never downloads: a missing model's error says which command would. Stateless and
// thread-safe.
#pragma once

#include <string>

#include "common/status.h"

namespace baton::model {

enum class ModelFormat { kGguf, kSafetensors };

struct ModelFiles {
  ModelFormat format;
  std::string path;    // GGUF file (first split), or the folder that holds config.json
  std::string folder;  // where tokenizer.json, chat_template.jinja, generation_config.json may be
};

// A path that exists goes before a hub id. A folder with config.json is safetensors (the weights
// themselves are looked for when they are loaded) unless it holds GGUF and no .safetensors files.
// kNotFound lists every place that was looked at; kInvalidArgument when a folder holds no model or
// several GGUF files (names them). `revision` (a branch, tag or commit) is "main" when empty and
// must not be given twice.
Result<ModelFiles> ResolveModel(const std::string& model_path, const std::string& revision = "");

// The hub cache's folder, from the environment; may not exist.
std::string HubCacheFolder();

}  // namespace baton::model
