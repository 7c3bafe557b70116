// config.json: read or refused, and what was read keeps the promises of model/config.h.
#include <cmath>
#include <cstdlib>
#include <string_view>

#include "model/config.h"

using namespace baton;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto parsed = json::Parse({reinterpret_cast<const char*>(data), size});
  if (!parsed.ok() || !parsed->is_object()) return 0;
  const auto config = model::ConfigFromHf(parsed->as_object());
  if (!config.ok()) return 0;
  if (config->heads % config->kv_heads != 0 || config->rotary_dim > config->head_dim) std::abort();
  const auto rope = model::ComputeRope(config->rope, config->rotary_dim);
  if (rope.inv_freq.size() != static_cast<size_t>(config->rotary_dim / 2)) std::abort();
  for (const float freq : rope.inv_freq) {
    if (!std::isfinite(freq)) std::abort();
  }
  return 0;
}
