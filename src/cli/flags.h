// Command-line flags as SGLang's argparse takes them: `--flag value` and `--flag=value`, any
// unambiguous prefix of a name, bare switches, `--config FILE.yaml` below the command line.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/json.h"
#include "common/status.h"

namespace baton::cli {

enum class FlagKind : uint8_t { kString, kInteger, kNumber, kSwitch };

struct Flag {
  std::string_view name;              // without dashes: "tp-size"
  FlagKind kind;
  std::string_view default_text;      // "" : none
  std::string_view help;
  std::vector<std::string_view> aliases = {};
  bool applies = true;                // false: accepted for SGLang's sake, has no effect here
  std::vector<std::string_view> choices = {};
};

// Values by primary name.
class FlagValues {
 public:
  std::string Text(std::string_view name) const;
  int64_t Integer(std::string_view name) const;
  double Number(std::string_view name) const;
  bool On(std::string_view name) const;
  bool Given(std::string_view name) const;   // on the command line or in the config file
  bool Has(std::string_view name) const;     // given, or with a default
  // Every flag by its underscore name with its typed value (null when none).
  json::object ToJson(std::span<const Flag> flags) const;

 private:
  friend Result<FlagValues> ParseFlags(std::span<const Flag>, std::vector<std::string>);
  std::map<std::string, std::string, std::less<>> values_;
  std::map<std::string, bool, std::less<>> given_;
};

// kInvalidArgument: unknown flag (with the nearest known one), ambiguous prefix, missing or
// ill-typed value, value outside of its choices, bad config file.
Result<FlagValues> ParseFlags(std::span<const Flag> flags, std::vector<std::string> arguments);

// --help or -h is among them.
bool WantsHelp(std::span<const std::string> arguments);

// Usage text: one flag a line.
std::string DescribeFlags(std::span<const Flag> flags);

}  // namespace baton::cli
