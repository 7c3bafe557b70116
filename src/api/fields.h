// Reads typed fields out of a JSON object with errors that name the field, what was expected and
// what was found. The first error sticks; later reads do nothing.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/json.h"
#include "common/status.h"

namespace baton::api {

// A JSON number that is a whole number in range (1, 1.0 and 1e3 count), or nullopt.
std::optional<int64_t> AsInteger(const json::value& v);
// Any JSON number, or nullopt.
std::optional<double> AsNumber(const json::value& v);
// An array of token ids (int32), or an error that names `field` and the element.
Result<std::vector<int32_t>> AsTokenIds(const json::value& v, std::string_view field);

class FieldReader {
 public:
  explicit FieldReader(const json::object& from) : from_(from) {}

  template <typename T>
  void Integer(std::string_view key, T& out, int64_t low = std::numeric_limits<T>::min(),
               int64_t high = std::numeric_limits<T>::max()) {
    const json::value* v = Take(key);
    if (!v) return;
    const auto n = AsInteger(*v);
    if (!n) return Wrong(key, "an integer", *v);
    if (*n < low || *n > high) return Range(key, fmt::format("{}", *n), fmt::format("{} to {}", low, high));
    out = static_cast<T>(*n);
  }
  void Float(std::string_view key, float& out);
  void Bool(std::string_view key, bool& out);
  void String(std::string_view key, std::string& out);
  // A string or an array of strings.
  void Strings(std::string_view key, std::vector<std::string>& out, size_t max_count);
  // An integer or an array of integers.
  void TokenIds(std::string_view key, std::vector<int32_t>& out);

  // The value of a present, non-null key.
  const json::value* Take(std::string_view key) {
    return status_.ok() ? json::Find(from_, key) : nullptr;
  }
  void Fail(Status status, std::string_view field = {}) {
    if (!status_.ok()) return;
    status_ = std::move(status);
    field_ = field;
  }
  void Wrong(std::string_view key, std::string_view wanted, const json::value& found) {
    Fail(Error(Code::kInvalidArgument, "{} must be {}, found {}", key, wanted, json::KindName(found)), key);
  }
  const Status& status() const { return status_; }
  const std::string& field() const { return field_; }  // the one that failed

 private:
  void Range(std::string_view key, std::string_view found, std::string_view range) {
    Fail(Error(Code::kInvalidArgument, "{} must be in the range {}, found {}", key, range, found), key);
  }

  const json::object& from_;
  Status status_;
  std::string field_;
};

}  // namespace baton::api
