// Workers files: broken ones are refused with a message that names the file; good ones list each worker once.
#include <cstdint>
#include <cstdlib>
#include <set>

#include "router/discovery/workers_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const bool pd : {false, true}) {
    const auto workers = baton::router::ReadWorkersFile("w.json", text, pd);
    if (!workers.ok()) {
      if (!workers.status().message().starts_with("w.json")) std::abort();
      continue;
    }
    std::set<std::string> keys;
    for (const auto& w : *workers) {
      if (!keys.insert(w.key).second) std::abort();
    }
  }
  return 0;
}
