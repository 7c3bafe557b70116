// The file of --config: flags as the flat part of YAML, below the command line.
#pragma once

#include <string>
#include <vector>

#include "common/status.h"

namespace baton::cli {

struct ConfigEntry {
  std::string key;    // a flag's name without dashes in front, '_' as '-'
  std::string value;  // without its quotes
  int line = 0;
};

// `key: value` lines, comments, quotes. In the file's order; a key may come several times.
// kNotFound, or kInvalidArgument with the line.
Result<std::vector<ConfigEntry>> ReadConfigFile(const std::string& path);

}  // namespace baton::cli
