#include "cli/flags.h"

#include <algorithm>
#include <charconv>

#include "cli/config_file.h"
#include "cli/flag_suggestion.h"

namespace baton::cli {
namespace {

const Flag* FindExact(std::span<const Flag> flags, std::string_view name) {
  for (const Flag& flag : flags) {
    if (flag.name == name || std::find(flag.aliases.begin(), flag.aliases.end(), name) != flag.aliases.end()) return &flag;
  }
  return nullptr;
}

// `name` may be a prefix of exactly one flag's names.
Result<const Flag*> FindFlag(std::span<const Flag> flags, std::string_view name) {
  if (const Flag* flag = FindExact(flags, name)) return flag;
  std::vector<const Flag*> matches;
  std::vector<std::string> all;
  for (const Flag& flag : flags) {
    bool hit = flag.name.starts_with(name);
    all.emplace_back(flag.name);
    for (const std::string_view alias : flag.aliases) {
      hit = hit || alias.starts_with(name);
      all.emplace_back(alias);
    }
    if (hit) matches.push_back(&flag);
  }
  if (matches.size() == 1) return matches[0];
  if (matches.size() > 1) {
    return Error(Code::kInvalidArgument, "--{} could mean --{} or --{}: write more of it", name, matches[0]->name, matches[1]->name);
  }
  const std::string near = Nearest(name, all);
  return Error(Code::kInvalidArgument, "unknown flag --{}{}", name, near.empty() ? "" : "; did you mean --" + near + "?");
}

Status CheckValue(const Flag& flag, const std::string& text) {
  const char* end = text.data() + text.size();
  if (flag.kind == FlagKind::kInteger) {
    int64_t n = 0;
    const auto parsed = std::from_chars(text.data(), end, n);
    if (parsed.ec != std::errc() || parsed.ptr != end) {
      return Error(Code::kInvalidArgument, "--{} needs an integer, found \"{}\"", flag.name, text);
    }
  } else if (flag.kind == FlagKind::kNumber) {
    double n = 0;
    const auto parsed = std::from_chars(text.data(), end, n);
    if (parsed.ec != std::errc() || parsed.ptr != end) {
      return Error(Code::kInvalidArgument, "--{} needs a number, found \"{}\"", flag.name, text);
    }
  }
  if (!flag.choices.empty() && std::find(flag.choices.begin(), flag.choices.end(), text) == flag.choices.end()) {
    std::string list;
    for (const auto choice : flag.choices) list += (list.empty() ? "" : ", ") + std::string(choice);
    return Error(Code::kInvalidArgument, "--{} must be one of {}, found \"{}\"", flag.name, list, text);
  }
  return Status::Ok();
}

bool IsTrue(std::string_view text) { return text == "true" || text == "True" || text == "1" || text == "yes"; }

}  // namespace

Result<FlagValues> ParseFlags(std::span<const Flag> flags, std::vector<std::string> arguments) {
  FlagValues out;
  for (const Flag& flag : flags) {
    if (!flag.default_text.empty()) out.values_[std::string(flag.name)] = flag.default_text;
  }
  std::string config;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (!argument.starts_with("--") || argument.size() == 2) {
      return Error(Code::kInvalidArgument, "unexpected argument \"{}\": flags begin with --", argument);
    }
    const size_t equals = argument.find('=');
    std::string name = argument.substr(2, equals == std::string::npos ? equals : equals - 2);
    std::string value = "true";
    // --no-NAME turns a switch off that may be on by default.
    if (name.starts_with("no-") && equals == std::string::npos && !FindExact(flags, name)) {
      const Flag* positive = FindExact(flags, name.substr(3));
      if (positive && positive->kind == FlagKind::kSwitch) {
        name.erase(0, 3);
        value = "false";
      }
    }
    const auto flag = FindFlag(flags, name);
    if (!flag.ok()) return flag.status();
    const std::string key((*flag)->name);
    if (equals != std::string::npos) {
      value = argument.substr(equals + 1);
    } else if ((*flag)->kind != FlagKind::kSwitch) {
      if (i + 1 >= arguments.size()) return Error(Code::kInvalidArgument, "--{} needs a value", key);
      value = arguments[++i];
    }
    if (Status s = CheckValue(**flag, value); !s.ok()) return s;
    out.values_[key] = value;
    out.given_[key] = true;
    if (key == "config") config = value;
  }
  if (config.empty()) return out;
  auto entries = ReadConfigFile(config);
  if (!entries.ok()) return entries.status();
  for (const auto& [key, value, line] : *entries) {
    const Flag* flag = FindExact(flags, key);
    if (!flag) {
      const auto found = FindFlag(flags, key);
      return Error(Code::kInvalidArgument, "--config {}: {}", config, found.ok() ? "write --" + std::string((*found)->name) + " in full" : found.status().message());
    }
    if (out.given_.count(flag->name)) continue;  // the command line wins
    if (Status s = CheckValue(*flag, value); !s.ok()) return s.Prefixed("--config " + config);
    out.values_[std::string(flag->name)] = flag->kind == FlagKind::kSwitch ? (IsTrue(value) ? "true" : "false") : value;
    out.given_[std::string(flag->name)] = true;
  }
  return out;
}

std::string FlagValues::Text(std::string_view name) const {
  const auto it = values_.find(name);
  return it == values_.end() ? std::string() : it->second;
}
int64_t FlagValues::Integer(std::string_view name) const {
  const std::string text = Text(name);
  int64_t n = 0;
  std::from_chars(text.data(), text.data() + text.size(), n);
  return n;
}
double FlagValues::Number(std::string_view name) const {
  const std::string text = Text(name);
  double n = 0;
  std::from_chars(text.data(), text.data() + text.size(), n);
  return n;
}
bool FlagValues::On(std::string_view name) const { return IsTrue(Text(name)); }
bool FlagValues::Given(std::string_view name) const { return given_.find(name) != given_.end(); }
bool FlagValues::Has(std::string_view name) const { return values_.find(name) != values_.end(); }

json::object FlagValues::ToJson(std::span<const Flag> flags) const {
  json::object out;
  for (const Flag& flag : flags) {
    std::string key(flag.name);
    std::replace(key.begin(), key.end(), '-', '_');
    if (flag.kind == FlagKind::kSwitch) out[key] = On(flag.name);
    else if (!Has(flag.name)) out[key] = nullptr;
    else if (flag.kind == FlagKind::kInteger) out[key] = Integer(flag.name);
    else if (flag.kind == FlagKind::kNumber) out[key] = Number(flag.name);
    else out[key] = Text(flag.name);
  }
  return out;
}

bool WantsHelp(std::span<const std::string> arguments) {
  return std::any_of(arguments.begin(), arguments.end(), [](const std::string& a) { return a == "--help" || a == "-h"; });
}

std::string DescribeFlags(std::span<const Flag> flags) {
  std::string out;
  for (const Flag& flag : flags) {
    std::string left = "  --" + std::string(flag.name);
    if (flag.kind != FlagKind::kSwitch) left += " X";
    out += fmt::format("{:<46} {}{}{}\n", left, flag.help,
                       flag.default_text.empty() ? "" : fmt::format(" [{}]", flag.default_text),
                       flag.applies ? "" : " (accepted, no effect here)");
  }
  return out;
}

}  // namespace baton::cli
