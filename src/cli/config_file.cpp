#include "cli/config_file.h"

#include <algorithm>
#include <fstream>

namespace baton::cli {

Result<std::vector<ConfigEntry>> ReadConfigFile(const std::string& path) {
  std::ifstream in(path);
  if (!in) return Error(Code::kNotFound, "--config: cannot read {}", path);
  std::vector<ConfigEntry> out;
  std::string line;
  for (int number = 1; std::getline(in, line); ++number) {
    const auto trim = [](std::string text) {
      text.erase(0, std::min(text.find_first_not_of(" \t\r"), text.size()));
      text.erase(text.find_last_not_of(" \t\r") + 1);
      return text;
    };
    if (const size_t hash = line.find(" #"); hash != std::string::npos) line.resize(hash);
    line = trim(line);
    if (line.empty() || line[0] == '#' || line == "---") continue;
    const size_t colon = line.find(':');
    if (colon == std::string::npos) {
      return Error(Code::kInvalidArgument, "--config {} line {}: expected \"key: value\"", path, number);
    }
    std::string key = trim(line.substr(0, colon));
    std::string value = trim(line.substr(colon + 1));
    if (value.size() >= 2 && (value[0] == '"' || value[0] == '\'') && value.back() == value[0]) {
      value = value.substr(1, value.size() - 2);
    }
    std::replace(key.begin(), key.end(), '_', '-');
    out.push_back({std::move(key), std::move(value), number});
  }
  return out;
}

}  // namespace baton::cli
