// The text side of a model: its tokenizer, chat template and generation defaults, from GGUF
// metadata or from the files beside a safetensors model.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "api/sampling.h"
#include "model/config.h"
#include "model/hub.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/tokenizer.h"

namespace baton::server {

struct ModelText {
  std::unique_ptr<tokenizer::Tokenizer> tokenizer;         // null with --skip-tokenizer-init
  std::optional<tokenizer::ChatTemplate> chat_template;    // absent: the model has none
  std::string chat_template_source;
  std::string bos_token, eos_token;                        // texts, for templates
  std::vector<int32_t> end_ids;                            // config's and tokenizer's, distinct
  api::SamplingParams sampling_defaults;                   // generation_config.json
};

struct ModelTextOptions {
  std::string tokenizer_path;   // empty: with the model
  std::string chat_template;    // file or literal template; empty: the model's
  bool skip_tokenizer = false;
  bool use_generation_config = true;
};

// `config` may be null (render-chat without weights).
Result<ModelText> LoadModelText(const model::ModelFiles& files, const model::ModelConfig* config,
                                const ModelTextOptions& options);

}  // namespace baton::server
