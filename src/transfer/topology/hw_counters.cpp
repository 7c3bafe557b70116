#include "transfer/topology/hw_counters.h"

#include <charconv>
#include <cmath>
#include <filesystem>

#include "transfer/topology/sysfs_files.h"

namespace baton::transfer {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxCounters = 8192;  // 32 cards of EFA have some 1,500

// NaN: nothing to tell.
double ReadNumber(const fs::path& path) {
  const std::string line = ReadLine(path);
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), value);
  const bool whole = error == std::errc() && (end == line.data() + line.size() || *end == ' ' || *end == '\r');
  return whole ? static_cast<double>(value) : std::nan("");
}

// Metric names hold letters, digits and underscores.
std::string NameOf(const fs::path& file) {
  std::string name = file.filename().string();
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  return "baton_rdma_hw_" + name;
}

class Exporter {
 public:
  explicit Exporter(metrics::Registry& registry) : registry_(registry) {}

  void AddFolder(const fs::path& folder, const std::string& device, const std::string& port) {
    for (const fs::path& file : ChildrenOf(folder)) {
      // "lifespan" is the driver's caching time, a setting.
      if (count_ == kMaxCounters || file.filename() == "lifespan") continue;
      registry_.AddCallback(NameOf(file), "Hardware counter of an RDMA card", [file] { return ReadNumber(file); },
                            {{"device", device}, {"port", port}});
      ++count_;
    }
  }
  size_t count() const { return count_; }

 private:
  metrics::Registry& registry_;
  size_t count_ = 0;
};

}  // namespace

size_t ExportHwCounters(metrics::Registry& registry, const std::string& root) {
  Exporter exporter(registry);
  for (const fs::path& device : ChildrenOf(fs::path(root) / "sys/class/infiniband")) {
    const std::string name = device.filename().string();
    exporter.AddFolder(device / "hw_counters", name, "");
    for (const fs::path& port : ChildrenOf(device / "ports"))
      exporter.AddFolder(port / "hw_counters", name, port.filename().string());
  }
  return exporter.count();
}

}  // namespace baton::transfer
