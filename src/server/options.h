// What a server is told at start. The flags of `baton serve` fill it in (cli/serve_flags.cpp).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/json.h"
#include "disagg/link.h"
#include "engine/engine.h"
#include "http/tls.h"
#include "transfer/transfer.h"

namespace baton::server {

enum class Mode : uint8_t { kNull, kPrefill, kDecode };
std::string_view ModeName(Mode mode);  // "null", "prefill", "decode"

struct ServerOptions {
  std::string model_path;
  std::string tokenizer_path;        // empty: the model's folder or file
  std::string served_model_name;     // empty: model_path
  std::string chat_template;         // file, or the template itself; empty: the model's
  bool skip_tokenizer_init = false;
  std::string host = "127.0.0.1";
  uint16_t port = 30000;
  http::ServerTlsOptions tls;        // of the HTTP port; the bootstrap port stays plain
  size_t max_held_body_bytes = 0;    // of all requests under way; 0: a quarter of the memory
  std::string api_key;
  std::string admin_api_key;
  Mode mode = Mode::kNull;
  uint16_t bootstrap_port = 8998;
  std::string transfer_backend = "fabric";
  transfer::Options fabric;
  std::string sysfs_root = "/";      // holds sys/: network cards and their counters
  std::chrono::milliseconds bootstrap_timeout{30'000};
  std::chrono::milliseconds transfer_timeout{120'000};

  std::string load_format = "auto";  // or "dummy"
  std::string device = "cpu";
  std::string isa;                   // --isa, empty: best
  int threads = 0;                   // of the compute team; 0: one per core
  int io_threads = 1;                // HTTP, JSON, tokenizing
  engine::EngineOptions engine;
  std::string kv_dtype = "auto";

  std::string sampling_defaults = "model";  // "model": generation_config.json, "openai": none
  bool enable_metrics = true;
  bool enable_cache_report = false;
  bool stream_output = false;        // /generate streams carry only new ids
  int stream_interval = 1;
  bool log_requests = false;
  int decode_log_interval = 40;
  std::chrono::milliseconds watchdog{300'000};
  std::chrono::milliseconds drain_timeout{60'000};
  bool skip_warmup = false;
  uint64_t random_seed = 0;          // 0: from the system
  json::object all_flags;            // every flag by its underscore name: /server_info
};

}  // namespace baton::server
