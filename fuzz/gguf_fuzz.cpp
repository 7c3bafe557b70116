// GGUF files from anywhere: parsing, every typed read, config and tensor views must end in a value
// or a Status, whatever the bytes are. Views must lie inside the input.
#include <cstdlib>

#include "model/gguf.h"
#include "model/weights.h"

using namespace baton::model;

namespace {

void ReadEverything(const GgufFile& file) {
  for (const auto& [key, value] : file.metadata()) {
    (void)file.GetString(key).ok();
    (void)file.GetUint(key).ok();
    (void)file.GetDouble(key).ok();
    (void)file.GetBool(key).ok();
    (void)file.GetStrings(key).ok();
    (void)file.GetInts(key).ok();
    (void)file.GetDoubles(key).ok();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto* bytes = reinterpret_cast<const std::byte*>(data);
  auto file = GgufFile::Parse({bytes, size});
  if (!file.ok()) return 0;
  ReadEverything(*file);
  for (const auto& [name, tensor] : file->tensors()) {
    const auto stored = file->Tensor(name);
    if (!stored.ok()) continue;
    const size_t offset = stored->data - bytes;
    if (offset > size || stored->rows * stored->RowBytes() > size - offset) std::abort();
  }
  const auto config = ConfigFromGguf(*file);
  if (!config.ok()) return 0;
  (void)ComputeRope(config->rope, config->rotary_dim);
  if (config->layers > 64) return 0;  // listing thousands of layers only slows the search
  const auto weights = WeightView::FromGguf(std::move(*file), *config);
  if (!weights.ok()) return 0;
  for (const WeightId id : ListWeights(*config)) (void)weights->Get(id.role, id.layer).ok();
  return 0;
}
