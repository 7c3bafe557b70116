#include "cli/router_config.h"

#include "cli/config_file.h"
#include "cli/flag_suggestion.h"

namespace baton::cli {
namespace {

// "a b", "[a, b]" and "a" as words.
std::vector<std::string> Words(std::string text) {
  const bool list = text.size() >= 2 && text.front() == '[' && text.back() == ']';
  if (list) text = text.substr(1, text.size() - 2);
  std::vector<std::string> words;
  std::string word;
  const auto end = [&] {
    if (word.size() >= 2 && (word[0] == '"' || word[0] == '\'') && word.back() == word[0]) word = word.substr(1, word.size() - 2);
    if (!word.empty()) words.push_back(std::exchange(word, {}));
  };
  for (const char c : text) {
    if (c == ' ' || c == '\t' || (list && c == ',')) end();
    else word += c;
  }
  end();
  return words;
}

bool IsList(const CLI::Option& option) { return option.get_items_expected_max() > 1; }

}  // namespace

RouterConfig::RouterConfig(const CLI::App& command, std::string path) : command_(&command), path_(std::move(path)) {
  for (const CLI::Option* option : command.get_options()) {
    if (option->count() == 0) continue;
    for (const std::string& name : option->get_lnames()) given_.insert(name);
  }
}

Result<RouterConfig::Values> RouterConfig::Reread() const {
  const auto entries = ReadConfigFile(path_);
  if (!entries.ok()) return entries.status();
  Values values;
  for (const ConfigEntry& entry : *entries) {
    const CLI::Option* option = command_->get_option_no_throw("--" + entry.key);
    if (!option || entry.key == "config" || entry.key == "help") {
      const std::string near = option ? "" : NearestFlag(*command_, entry.key);
      return Error(Code::kInvalidArgument, "--config {} line {}: {} \"{}\"{}", path_, entry.line,
                   option ? "not a key for a file:" : "unknown key", entry.key,
                   near.empty() ? "" : "; did you mean " + near.substr(2) + "?");
    }
    if (given_.contains(entry.key)) continue;
    std::vector<std::string>& words = values[entry.key];
    if (!IsList(*option)) {
      words = {entry.value};
      continue;
    }
    for (std::string& word : Words(entry.value)) words.push_back(std::move(word));
  }
  return values;
}

Result<RouterConfig> RouterConfig::Load(CLI::App& command, const std::string& path) {
  RouterConfig config(command, path);
  auto values = config.Reread();
  if (!values.ok()) return values.status();
  for (const auto& [key, words] : *values) {
    CLI::Option* option = command.get_option("--" + key);
    if (words.empty()) continue;
    try {
      option->add_result(words);
      option->run_callback();
    } catch (const CLI::ParseError& error) {
      return Error(Code::kInvalidArgument, "--config {}: {}", path, error.what());
    }
  }
  config.values_ = std::move(*values);
  return config;
}

}  // namespace baton::cli
