// `baton router --config FILE`: flags from a file below the command line, and what has changed in the
// file when it is read again.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "common/status.h"

namespace baton::cli {

class RouterConfig {
 public:
  using Values = std::map<std::string, std::vector<std::string>>;  // by flag, without dashes

  // Sets each flag of `path` that the command line of `command`, which has been parsed, did not give.
  // Lists take words with spaces between them, [a, b], or the key several times. kNotFound;
  // kInvalidArgument names line and cause: an unknown key (with the nearest known one), a value that
  // the flag does not take.
  static Result<RouterConfig> Load(CLI::App& command, const std::string& path);

  // The file as it is now, without what the command line gave, checked for unknown keys only. Flags
  // of the command stay as they are.
  Result<Values> Reread() const;
  // As of Load or the last Accept.
  const Values& values() const { return values_; }
  void Accept(Values values) { values_ = std::move(values); }
  bool FromCommandLine(const std::string& flag) const { return given_.contains(flag); }

 private:
  RouterConfig(const CLI::App& command, std::string path);

  const CLI::App* command_;
  std::string path_;
  std::set<std::string> given_;
  Values values_;
};

}  // namespace baton::cli
