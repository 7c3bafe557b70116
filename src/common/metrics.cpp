#include "common/metrics.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace baton::metrics {
namespace {

std::string EscapeLabel(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (c == '\\' || c == '"') out += '\\';
    if (c == '\n') out += "\\n";
    else out += c;
  }
  return out;
}

void AppendSample(std::string& out, std::string_view name, const Labels& common,
                  const Labels& own, std::string_view le, double value) {
  out += name;
  const char* separator = "{";
  const auto append = [&](std::string_view key, std::string_view text) {
    out += fmt::format("{}{}=\"{}\"", separator, key, EscapeLabel(text));
    separator = ",";
  };
  for (const auto& [key, text] : common) append(key, text);
  for (const auto& [key, text] : own) append(key, text);
  if (!le.empty()) append("le", le);
  if (*separator == ',') out += '}';
  out += fmt::format(" {}\n", value);
}

}  // namespace

Histogram::Histogram(std::vector<double> upper_bounds)
    : bounds_(std::move(upper_bounds)),
      buckets_(std::make_unique<std::atomic<uint64_t>[]>(bounds_.size() + 1)) {
  std::sort(bounds_.begin(), bounds_.end());
}

void Histogram::Observe(double v) {
  const size_t i = std::lower_bound(bounds_.begin(), bounds_.end(), v) - bounds_.begin();
  buckets_[i].fetch_add(1, std::memory_order_relaxed);
  sum_.fetch_add(v, std::memory_order_relaxed);
}

uint64_t Histogram::CumulativeCount(size_t i) const {
  uint64_t total = 0;
  for (size_t b = 0; b <= i && b <= bounds_.size(); ++b) {
    total += buckets_[b].load(std::memory_order_relaxed);
  }
  return total;
}

Registry::Series& Registry::Find(const std::string& name, const std::string& help,
                                 const char* type, Labels labels) {
  Family& family = families_[name];
  if (family.type.empty()) family = Family{help, type, {}};
  for (Series& series : family.series) {
    if (series.labels == labels) return series;
  }
  family.series.push_back(Series{std::move(labels), nullptr, nullptr, nullptr, nullptr});
  return family.series.back();
}

Counter* Registry::AddCounter(const std::string& name, const std::string& help, Labels labels) {
  std::lock_guard lock(mutex_);
  Series& series = Find(name, help, "counter", std::move(labels));
  if (!series.counter) series.counter = std::make_unique<Counter>();
  return series.counter.get();
}

Gauge* Registry::AddGauge(const std::string& name, const std::string& help, Labels labels) {
  std::lock_guard lock(mutex_);
  Series& series = Find(name, help, "gauge", std::move(labels));
  if (!series.gauge) series.gauge = std::make_unique<Gauge>();
  return series.gauge.get();
}

Histogram* Registry::AddHistogram(const std::string& name, const std::string& help,
                                  std::vector<double> upper_bounds, Labels labels) {
  std::lock_guard lock(mutex_);
  Series& series = Find(name, help, "histogram", std::move(labels));
  if (!series.histogram) series.histogram = std::make_unique<Histogram>(std::move(upper_bounds));
  return series.histogram.get();
}

void Registry::AddCallback(const std::string& name, const std::string& help,
                           std::function<double()> read, Labels labels) {
  std::lock_guard lock(mutex_);
  Find(name, help, "gauge", std::move(labels)).read = std::move(read);
}

void Registry::Drop(std::string_view label, std::string_view value) {
  std::lock_guard lock(mutex_);
  for (auto& [name, family] : families_) {
    std::erase_if(family.series, [&](const Series& series) {
      return std::any_of(series.labels.begin(), series.labels.end(),
                         [&](const auto& own) { return own.first == label && own.second == value; });
    });
  }
}

std::string Registry::Render() const {
  std::lock_guard lock(mutex_);
  std::string out;
  for (const auto& [name, family] : families_) {
    out += fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, family.help, name, family.type);
    for (const Series& s : family.series) {
      if (s.counter) AppendSample(out, name, common_, s.labels, "", s.counter->value());
      if (s.gauge) AppendSample(out, name, common_, s.labels, "", s.gauge->value());
      if (const double value = s.read ? s.read() : std::nan(""); !std::isnan(value))
        AppendSample(out, name, common_, s.labels, "", value);
      if (!s.histogram) continue;
      const size_t count = s.histogram->bounds().size();
      for (size_t i = 0; i <= count; ++i) {
        const std::string le = i < count ? fmt::format("{}", s.histogram->bounds()[i]) : "+Inf";
        AppendSample(out, name + "_bucket", common_, s.labels, le,
                     static_cast<double>(s.histogram->CumulativeCount(i)));
      }
      AppendSample(out, name + "_sum", common_, s.labels, "", s.histogram->sum());
      AppendSample(out, name + "_count", common_, s.labels, "",
                   static_cast<double>(s.histogram->CumulativeCount(count)));
    }
  }
  return out;
}

}  // namespace baton::metrics
