// Finds a model on disk: a GGUF file, a folder, or a hub id ("org/name[@revision]") in the local hub cache
// (HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME as huggingface_hub defines them). Never downloads.
#pragma once

#include <string>

#include "common/status.h"

namespace baton::model {

enum class ModelFormat { kGguf, kSafetensors };

struct ModelFiles {
  ModelFormat format;
  std::string path;         // GGUF file (first split), or the folder that holds config.json
  std::string folder;       // where tokenizer.json, chat_template.jinja, generation_config.json may be
};

// kNotFound lists every place that was looked at; kInvalidArgument when a folder holds no model or
// several GGUF files (names them).
Result<ModelFiles> ResolveModel(const std::string& model_path, const std::string& revision = "");

}  // namespace baton::model
