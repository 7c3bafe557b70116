// Prometheus metrics. Create once at start, keep the pointer, update from any thread.
//
// Update cost: one relaxed atomic. A Registry owns its metrics and renders the text format 0.0.4.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace baton::metrics {

using Labels = std::vector<std::pair<std::string, std::string>>;

class Counter {
 public:
  void Add(double n = 1) { value_.fetch_add(n, std::memory_order_relaxed); }
  double value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<double> value_{0};
};

class Gauge {
 public:
  void Set(double v) { value_.store(v, std::memory_order_relaxed); }
  void Add(double n) { value_.fetch_add(n, std::memory_order_relaxed); }
  double value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<double> value_{0};
};

class Histogram {
 public:
  explicit Histogram(std::vector<double> upper_bounds);
  void Observe(double v);
  const std::vector<double>& bounds() const { return bounds_; }
  // Observations at or under bounds()[i]; index bounds().size() counts all.
  uint64_t CumulativeCount(size_t i) const;
  double sum() const { return sum_.load(std::memory_order_relaxed); }

 private:
  std::vector<double> bounds_;
  std::unique_ptr<std::atomic<uint64_t>[]> buckets_;
  std::atomic<double> sum_{0};
};

class Registry {
 public:
  // Labels that every metric of this registry carries (model_name, engine_type, ...).
  explicit Registry(Labels common = {}) : common_(std::move(common)) {}

  // Same name and labels give the same object. Pointers live as long as the registry, or until Drop.
  // Thread-safe.
  Counter* AddCounter(const std::string& name, const std::string& help, Labels labels = {});
  Gauge* AddGauge(const std::string& name, const std::string& help, Labels labels = {});
  Histogram* AddHistogram(const std::string& name, const std::string& help,
                          std::vector<double> upper_bounds, Labels labels = {});
  // A gauge read when rendered. NaN: it has nothing to tell now, and its sample is left out.
  void AddCallback(const std::string& name, const std::string& help, std::function<double()> read,
                   Labels labels = {});

  // Forgets every series with this label. Nobody may use its pointers any more.
  void Drop(std::string_view label, std::string_view value);

  std::string Render() const;

 private:
  struct Series {
    Labels labels;
    std::unique_ptr<Counter> counter;
    std::unique_ptr<Gauge> gauge;
    std::unique_ptr<Histogram> histogram;
    std::function<double()> read;
  };
  struct Family {
    std::string help, type;
    std::deque<Series> series;
  };
  Series& Find(const std::string& name, const std::string& help, const char* type, Labels labels);

  Labels common_;
  mutable std::mutex mutex_;
  std::map<std::string, Family> families_;
};

}  // namespace baton::metrics
