#include "cli/flag_suggestion.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include <fmt/format.h>

namespace baton::cli {

size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row.back();
}

std::string Nearest(std::string_view word, const std::vector<std::string>& names) {
  std::string nearest;
  size_t best = std::max<size_t>(2, word.size() / 3) + 1;
  for (const std::string& name : names) {
    const bool prefix = !word.empty() && name.starts_with(word);
    const size_t distance = prefix ? 1 : EditDistance(word, name);
    if (distance >= best) continue;
    best = distance;
    nearest = name;
  }
  return nearest;
}

std::string NearestFlag(const CLI::App& command, std::string_view unknown) {
  std::string_view name = unknown.substr(0, unknown.find('='));
  while (name.starts_with('-')) name.remove_prefix(1);
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options()) {
    names.insert(names.end(), option->get_lnames().begin(), option->get_lnames().end());
  }
  const std::string nearest = Nearest(name, names);
  return nearest.empty() ? nearest : "--" + nearest;
}

std::string UnknownArgumentMessage(const CLI::App& command) {
  const std::vector<std::string> left = command.remaining();
  if (left.empty()) return {};
  const std::string nearest = NearestFlag(command, left.front());
  if (nearest.empty()) return fmt::format("unknown argument {} (see --help)", left.front());
  return fmt::format("unknown argument {}; did you mean {}?", left.front(), nearest);
}

}  // namespace baton::cli
