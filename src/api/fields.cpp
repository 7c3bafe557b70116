#include "api/fields.h"

namespace baton::api {

std::optional<int64_t> AsInteger(const json::value& v) {
  if (v.is_int64()) return v.get_int64();
  if (v.is_uint64() && v.get_uint64() <= uint64_t{std::numeric_limits<int64_t>::max()}) {
    return static_cast<int64_t>(v.get_uint64());
  }
  if (v.is_double() && v.get_double() == std::floor(v.get_double()) && std::abs(v.get_double()) < 9e15) {
    return static_cast<int64_t>(v.get_double());
  }
  return std::nullopt;
}

std::optional<double> AsNumber(const json::value& v) {
  if (v.is_int64()) return static_cast<double>(v.get_int64());
  if (v.is_uint64()) return static_cast<double>(v.get_uint64());
  if (v.is_double()) return v.get_double();
  return std::nullopt;
}

Result<std::vector<int32_t>> AsTokenIds(const json::value& v, std::string_view field) {
  if (!v.is_array()) {
    return Error(Code::kInvalidArgument, "{} must be an array of token ids, found {}", field,
                 json::KindName(v));
  }
  std::vector<int32_t> ids;
  ids.reserve(v.get_array().size());
  for (const json::value& element : v.get_array()) {
    const auto id = AsInteger(element);
    if (!id || *id < 0 || *id > std::numeric_limits<int32_t>::max()) {
      return Error(Code::kInvalidArgument, "{}[{}] must be a token id (a non-negative integer), found {}",
                   field, ids.size(), json::serialize(element));
    }
    ids.push_back(static_cast<int32_t>(*id));
  }
  return ids;
}

void FieldReader::Float(std::string_view key, float& out) {
  const json::value* v = Take(key);
  if (!v) return;
  const auto n = AsNumber(*v);
  if (!n) return Wrong(key, "a number", *v);
  if (!std::isfinite(static_cast<float>(*n))) return Range(key, "an infinite number", "of finite numbers");
  out = static_cast<float>(*n);
}

void FieldReader::Bool(std::string_view key, bool& out) {
  const json::value* v = Take(key);
  if (!v) return;
  if (!v->is_bool()) return Wrong(key, "a boolean", *v);
  out = v->get_bool();
}

void FieldReader::String(std::string_view key, std::string& out) {
  const json::value* v = Take(key);
  if (!v) return;
  if (!v->is_string()) return Wrong(key, "a string", *v);
  out = v->get_string();
}

void FieldReader::Strings(std::string_view key, std::vector<std::string>& out, size_t max_count) {
  const json::value* v = Take(key);
  if (!v) return;
  if (v->is_string()) {
    out.assign(1, std::string(v->get_string()));
    return;
  }
  if (!v->is_array()) return Wrong(key, "a string or an array of strings", *v);
  if (v->get_array().size() > max_count) {
    return Fail(Error(Code::kInvalidArgument, "{} holds {} strings, at most {} are allowed", key,
                      v->get_array().size(), max_count), key);
  }
  out.clear();
  for (const json::value& element : v->get_array()) {
    if (!element.is_string()) return Wrong(fmt::format("{}[{}]", key, out.size()), "a string", element);
    out.emplace_back(element.get_string());
  }
}

void FieldReader::TokenIds(std::string_view key, std::vector<int32_t>& out) {
  const json::value* v = Take(key);
  if (!v) return;
  auto ids = v->is_array() ? AsTokenIds(*v, key) : AsTokenIds(json::array{*v}, key);
  if (!ids.ok()) return Fail(ids.status(), key);
  out = std::move(*ids);
}

}  // namespace baton::api
