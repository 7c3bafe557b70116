#include "router/engine_metrics.h"

#include <algorithm>
#include <map>

namespace baton::router {
namespace {

struct Family {
  std::vector<std::string> notes;  // HELP and TYPE
  std::vector<std::string> samples;
};

// Families in order of appearance.
class Merger {
 public:
  void Take(const std::string& worker, std::string_view text) {
    family_.clear();
    while (!text.empty()) {
      const size_t end = std::min(text.find('\n'), text.size());
      TakeLine(worker, text.substr(0, end));
      text.remove_prefix(std::min(end + 1, text.size()));
    }
  }

  std::string Render() const {
    std::string out;
    for (const std::string& name : order_) {
      const Family& family = families_.at(name);
      for (const std::string& note : family.notes) out += note + "\n";
      for (const std::string& sample : family.samples) out += sample + "\n";
    }
    return out;
  }

 private:
  Family& Of(const std::string& name) {
    if (!families_.contains(name)) order_.push_back(name);
    return families_[name];
  }

  void TakeLine(const std::string& worker, std::string_view line) {
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.starts_with("# HELP ") || line.starts_with("# TYPE ")) {
      const std::string_view rest = line.substr(7);
      family_ = rest.substr(0, rest.find(' '));
      Family& family = Of(family_);
      const std::string_view kind = line.substr(0, 7);
      const bool told = std::any_of(family.notes.begin(), family.notes.end(),
                                    [&](const std::string& note) { return note.starts_with(kind); });
      if (!told) family.notes.emplace_back(line);
      return;
    }
    const size_t name_end = line.find_first_of("{ ");
    if (line.empty() || line[0] == '#' || name_end == std::string_view::npos) return;
    const std::string_view name = line.substr(0, name_end);
    // Samples of histograms carry suffixes: they belong to the family announced above them.
    const std::string owner = !family_.empty() && name.starts_with(family_) ? family_ : std::string(name);
    std::string sample(name);
    sample += "{worker_addr=\"" + worker + "\"";
    if (line[name_end] == '{') {
      const std::string_view labels = line.substr(name_end + 1);
      sample += labels.starts_with('}') ? "" : ",";
      sample += labels;
    } else {
      sample += "}";
      sample += line.substr(name_end);
    }
    Of(owner).samples.push_back(std::move(sample));
  }

  std::vector<std::string> order_;
  std::map<std::string, Family> families_;
  std::string family_;
};

}  // namespace

std::string MergeMetrics(const std::vector<std::pair<std::string, std::string>>& texts) {
  Merger merger;
  for (const auto& [worker, text] : texts) merger.Take(worker, text);
  return merger.Render();
}

}  // namespace baton::router
