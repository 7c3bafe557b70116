// Safetensors files and their index: parsed or refused; views must lie inside the input.
#include <cstdlib>
#include <string_view>

#include "model/safetensors.h"

using namespace baton::model;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto index = ParseSafetensorsIndex({reinterpret_cast<const char*>(data), size});
  if (index.ok()) {
    for (const auto& [tensor, file] : *index) {
      if (file.empty() || file.find('/') != file.npos || file.front() == '.') std::abort();
    }
  }
  const auto* bytes = reinterpret_cast<const std::byte*>(data);
  const auto file = SafetensorsFiles::Parse({bytes, size});
  if (!file.ok()) return 0;
  for (const auto& [name, tensor] : file->tensors()) {
    const auto stored = file->Tensor(name);
    if (!stored.ok()) continue;
    const size_t offset = stored->data - bytes;
    if (offset > size || stored->rows * stored->RowBytes() > size - offset) std::abort();
  }
  return 0;
}
